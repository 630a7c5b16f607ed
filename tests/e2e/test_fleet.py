"""`easel worker --devices 0,1` as people run it: a worker for each, that lives and ends with it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from easel.client import Client
from easel.embedded import Stack
from easel.embedded.ports import HOST
from tests.scraping import scrape

PATIENCE_SECONDS = 120.0
#: What each worker is allowed to hold: less than any engine has room for, whatever it has measured.
SLOTS = 1


@pytest.fixture
def endpoint(stack: Stack) -> str:
    """Where all workers of the fleet show their metrics together."""
    return f"{HOST}:{stack.servers.take_port()}"


@pytest.fixture
async def fleet(stack: Stack, endpoint: str, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **stack.workers[0].environment(),
        "EASEL_METRICS_LISTEN": endpoint,
        "EASEL_SLOTS": str(SLOTS),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "gauge_livesum_1.db").write_bytes(b"from before, of a process whose number is taken again")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "easel", "worker", "--devices", "0,1", env={**os.environ, **environment}
    )
    yield process
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def until_live(client: Client, *, workers: int) -> None:
    """Wait until so many are live beside the stack's own."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.list_models())[0].live_workers < 1 + workers:  # noqa: ASYNC110  # a question to a server
            await asyncio.sleep(0.1)


async def until_shown(endpoint: str, *, slots: int) -> None:
    """Wait until the shared endpoint shows so many; between two workers nobody may answer there."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(httpx2.HTTPError):
                if (await scrape(f"http://{endpoint}/metrics")).value("easel_slots") == slots:
                    return
            await asyncio.sleep(0.1)


def workers_of(fleet: asyncio.subprocess.Process) -> list[psutil.Process]:
    return psutil.Process(fleet.pid).children()


async def test_a_worker_for_each_device_lives_dies_and_ends_with_the_command(
    fleet: asyncio.subprocess.Process, stack: Stack, endpoint: str
) -> None:
    async with Client(stack.target) as client:
        await until_live(client, workers=2)
        await until_shown(endpoint, slots=2 * SLOTS)
        first, second = workers_of(fleet)
        assert [worker.environ()["CUDA_VISIBLE_DEVICES"] for worker in (first, second)] == ["0", "1"]

        first.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while first in (now := workers_of(fleet)) or len(now) < 2:  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.1)
        assert second in now
        await until_live(client, workers=2)
        await until_shown(endpoint, slots=2 * SLOTS)

        fleet.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await fleet.wait() == 0
        assert not any(worker.is_running() for worker in now)

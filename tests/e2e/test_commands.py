"""`easel demo` and `easel up` as people run them: from start to end, interrupted, and failing."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from easel.client import Client, GenerationSpec, GenerationState
from easel.embedded import Stack, prometheus
from tests.faults import clients
from tests.scraping import scrape

EASEL = (sys.executable, "-P", "-m", "easel")
PATIENCE_SECONDS = 60.0

#: Killing takes no longer than this; a worker's grace is many times as long.
STOP_SECONDS = 5.0


@asynccontextmanager
async def command(folder: Path, *arguments: str, model: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `easel` in a folder of its own, with a model that is there already."""
    process = await asyncio.create_subprocess_exec(
        *EASEL,
        *arguments,
        cwd=folder,
        env={**os.environ, "EASEL_MODEL": model, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until(process: asyncio.subprocess.Process, text: str) -> str:
    """Read its output up to the line that holds a text."""
    assert process.stdout is not None
    seen = ""
    while line := (await process.stdout.readline()).decode():
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"no {text!r} in {seen!r}")


def processes_in(folder: Path) -> list[str]:
    """List what runs in a folder; children run where their parent does, or in their data."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


async def test_demo_draws_a_picture_and_leaves_nothing_running(stack: Stack, tmp_path: Path) -> None:
    async with command(tmp_path, "demo", "--steps", "4", "--seed", "7", "--", "a 'castle'", model=stack.model) as demo:
        output, errors = await demo.communicate()
    said = output.decode()
    assert demo.returncode == 0, errors.decode()
    assert "a 'castle'" in said
    found = re.search(r"^picture +(out/([0-9a-f-]{36})\.png)", said, re.MULTILINE)
    assert found is not None, said
    assert re.search(rf"^id +{found[2]}", said, re.MULTILINE)
    assert re.search(r"^seed +7\b", said, re.MULTILINE)
    assert re.search(r"^denoising +[0-9.]+ s", said, re.MULTILINE)
    with Image.open(tmp_path / found[1]) as picture:
        assert picture.format == "PNG"
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("file", ["initdb.json", "migrate.json", "worker.json"])
async def test_an_interrupted_demo_leaves_nothing_running(stack: Stack, tmp_path: Path, file: str) -> None:
    started = tmp_path / ".easel/demo/processes" / file
    async with command(tmp_path, "demo", model=stack.model) as demo:
        while not started.exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.001)
        assert len(processes_in(tmp_path)) > 1
        demo.send_signal(signal.SIGINT)
        _, errors = await demo.communicate()
    assert demo.returncode == 130
    assert errors.decode() == ""
    assert processes_in(tmp_path) == []


async def test_a_demo_that_fails_says_what_failed_and_which_log_to_read(tmp_path: Path) -> None:
    async with command(tmp_path, "demo", model="/nowhere") as demo:
        _, errors = await demo.communicate()
    log = tmp_path / ".easel/demo/logs/worker.log"
    assert demo.returncode == 1
    assert errors.decode().startswith(f"easel: worker ended with status 2 before it was ready. Its log is {log} and")
    assert "EASEL_MODEL: there is no folder /nowhere" in errors.decode()
    assert processes_in(tmp_path) == []


async def test_up_serves_mends_itself_and_stops_when_asked(stack: Stack, tmp_path: Path) -> None:
    async with command(tmp_path, "up", "--port", "0", "--workers", "1", model=stack.model) as up:
        said = await until(up, "Ctrl-C stops everything")
        found = re.search(r"^gateway +(\S+)", said, re.MULTILINE)
        assert found is not None, said
        async with Client(found[1]) as client:
            assert [model.live_workers for model in await client.list_models()] == [1]
            gateway_metrics, worker_metrics = [await scrape(url) for url in re.findall(r"http://\S+/metrics", said)]
            assert gateway_metrics.value("easel_build_info", service="gateway") == 1
            assert worker_metrics.value("easel_build_info", service="worker") == 1
            gateway = next(child for child in psutil.Process(up.pid).children() if "gateway" in child.cmdline())
            gateway.kill()
            assert "starting it again" in await until(up, "gateway is back")
            assert [model.name for model in await client.list_models()] == ["postcard"]
        up.send_signal(signal.SIGTERM)
        _, errors = await up.communicate()
    assert up.returncode == 0
    assert errors.decode() == ""
    assert processes_in(tmp_path) == []


@pytest.mark.skipif(not prometheus.is_installed(), reason="Prometheus is not installed here")
async def test_up_has_prometheus_observe_it(stack: Stack, tmp_path: Path) -> None:
    async with command(tmp_path, "up", "--port", "0", "--observe", model=stack.model) as up:
        said = await until(up, "Ctrl-C stops everything")
        found = re.search(r"^prometheus +(\S+)", said, re.MULTILINE)
        assert found is not None, said
        async with httpx2.AsyncClient(base_url=found[1]) as client:

            async def active_targets() -> Any:
                return (await client.get("/api/v1/targets")).json()["data"]["activeTargets"]

            # It takes seconds to find what it is to observe.
            targets = await clients.until(active_targets)
        assert sorted(target["labels"]["job"] for target in targets) == ["gateway", "worker"]
        up.send_signal(signal.SIGINT)
        await up.communicate()
    assert up.returncode == 0
    assert processes_in(tmp_path) == []


async def test_a_second_ctrl_c_stops_a_drawing_at_once(stack: Stack, tmp_path: Path) -> None:
    async with command(tmp_path, "up", "--port", "0", model=stack.model) as up:
        said = await until(up, "Ctrl-C stops everything")
        found = re.search(r"^gateway +(\S+)", said, re.MULTILINE)
        assert found is not None, said
        async with Client(found[1]) as client:
            [model] = await client.list_models()
            side = 256
            steps = min(model.steps.max, model.max_pixel_steps // side**2)
            async for event in client.generate(GenerationSpec(prompt="a castle", width=side, height=side, steps=steps)):
                assert event.generation.state != GenerationState.GENERATION_STATE_SUCCEEDED
                if event.progress is not None and event.progress.step:
                    break
        up.send_signal(signal.SIGINT)
        await until(up, "finishing what is being drawn; Ctrl-C again to stop at once")
        up.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_SECONDS):
            _, errors = await up.communicate()
    assert up.returncode == 0
    assert errors.decode() == ""
    assert processes_in(tmp_path) == []

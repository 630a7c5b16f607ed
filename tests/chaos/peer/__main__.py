"""`python -m tests.chaos.peer`: the peer's share of the comparison, as JSON."""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from easel.embedded import Servers
from easel.embedded.process import Process
from tests.chaos.peer.parts import ROOT, Api, DramatiqWorker, Redis

#: What each request asks for: as long as the scripted pictures of Easel's runs.
STEPS = 5
STEP_SECONDS = 0.03
#: How many requests are under way at the same time.
OUTSTANDING = 12
PAUSE_SECONDS = (1.0, 3.0)
#: After the last kill everything gets this long to come to its end: many times what anything takes.
PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.05
BROKER, WORKER = "broker", "worker"


@dataclass
class Job:
    """What a client knows of its request."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.monotonic)
    accepted: bool = False
    finished: float | None = None


class Clients:
    """Clients that ask, ask again when they got no answer, and wait for their pictures."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=5)
        self._stopping = False
        self.jobs: list[Job] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(OUTSTANDING):
                group.create_task(self._ask_on())

    def stop(self) -> None:
        self._stopping = True

    async def _ask_on(self) -> None:
        while not self._stopping:
            job = Job()
            self.jobs.append(job)
            # A client gives up on a job that never ends, so that the load goes on.
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._see_through(job)
            except TimeoutError:
                continue

    async def _see_through(self, job: Job) -> None:
        wanted = {"request_id": job.id, "steps": STEPS, "step_seconds": STEP_SECONDS}
        while not job.accepted:
            answer = await self._call("POST", "/generations", json=wanted)
            job.accepted = answer is not None
        while job.finished is None:
            await asyncio.sleep(POLL_SECONDS)
            answer = await self._call("GET", f"/generations/{job.id}")
            if answer is not None and answer.get("state") == "SUCCEEDED":
                job.finished = time.monotonic()

    async def _call(self, method: str, path: str, **given: Any) -> dict[str, str] | None:
        try:
            answer = await self._http.request(method, path, **given)
        except httpx2.HTTPError:
            await asyncio.sleep(POLL_SECONDS)
            return None
        if answer.is_error:
            await asyncio.sleep(POLL_SECONDS)
            return None
        found: dict[str, str] = answer.json()
        return found

    async def drawings(self) -> Counter[int]:
        """Count by how often they were drawn the jobs that were accepted."""
        counts: Counter[int] = Counter()
        for job in self.jobs:
            if job.accepted:
                counts[int((await self._call("GET", f"/generations/{job.id}") or {}).get("drawings", 0))] += 1
        return counts


async def kill_and_start(process: Process) -> None:
    process.kill()
    await process.start()


async def run(*, seed: int, kills: int, durable: bool) -> dict[str, Any]:
    """Kill workers and the broker under load, and say what became of what was accepted."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = Servers(folder)
        servers.prepare()
        stack.callback(servers.kill)
        broker = Redis(folder=servers.folder, port=servers.take_port(), durable=durable)
        environment = {
            **os.environ,
            **servers.environment(user="worker"),
            "PEER_REDIS_URL": broker.url,
            "PYTHONPATH": str(ROOT),
        }
        api = Api(folder=servers.folder, port=servers.take_port(), environment=environment)
        workers = [
            DramatiqWorker(name, folder=servers.folder, environment=environment) for name in ("worker", "worker-2")
        ]
        for process in (servers.s3, broker, api, *workers):
            stack.callback(process.kill)
            await process.start()
        clients = Clients(api.url)
        asking = asyncio.create_task(clients.run())
        struck: list[tuple[float, str]] = []
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))
            name, process = chance.choice([(BROKER, broker), *((WORKER, worker) for worker in workers)])
            struck.append((time.monotonic(), name))
            await kill_and_start(process)
        clients.stop()
        await asking
        return _report(clients.jobs, struck, await clients.drawings(), seed=seed, durable=durable)


def _report(
    jobs: Sequence[Job], struck: Sequence[tuple[float, str]], drawings: Counter[int], *, seed: int, durable: bool
) -> dict[str, Any]:
    accepted = [job for job in jobs if job.accepted]
    recovery: dict[str, list[float]] = {BROKER: [], WORKER: []}
    for moment, name in struck:
        # Until a request that came after the kill was done: all that a client sees of a recovery.
        done = [job.finished for job in accepted if job.created > moment and job.finished is not None]
        if done:
            recovery[name].append(min(done) - moment)
    return {
        "peer": "FastAPI + Dramatiq + Redis" + (" (append-only log)" if durable else " (as it comes)"),
        "kills": len(struck),
        "accepted": len(accepted),
        "lost": sum(job.finished is None for job in accepted),
        "drawn_more_than_once": sum(count for times, count in drawings.items() if times > 1),
        "slowest_seconds": max((job.finished - job.created for job in accepted if job.finished), default=None),
        "recovery_seconds": {name: _quantiles(seconds) for name, seconds in recovery.items()},
        "seed": seed,
    }


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.peer", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--as-it-comes", action="store_true", help="Redis without its append-only log")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = json.dumps(asyncio.run(run(seed=given.seed, kills=given.kills, durable=not given.as_it_comes)), indent=2)
    if given.json:
        given.json.write_text(report + "\n")
    sys.stdout.write(report + "\n")


if __name__ == "__main__":
    main()

"""One contender under the kills: what was lost, what was drawn twice, and how long a request waited after a kill."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from easel.embedded.process import Process
from tests.chaos.compare.clients import Clients, Job
from tests.chaos.compare.contenders import Enter
from tests.chaos.outcome import percentiles

PAUSE_SECONDS = (1.0, 3.0)
BROKER, WORKER = "broker", "worker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """A kill -9, with a start right after it."""

    pause_seconds: float
    kind: str
    #: Of the workers, which one.
    index: int = 0


def schedule(*, seed: int, kills: int) -> Sequence[Kill]:
    """Plan the kills, the same for every contender: one in three is the broker's."""
    chance = random.Random(seed)
    victims = [(BROKER, 0), (WORKER, 0), (WORKER, 1)]
    return [
        Kill(pause_seconds=chance.uniform(*PAUSE_SECONDS), kind=kind, index=index)
        for kind, index in (chance.choice(victims) for _ in range(kills))
    ]


async def run(enter: Enter, kills: Sequence[Kill], *, on_kill: Callable[[], None]) -> dict[str, Any]:
    """Kill under load, wait until everything that will end has ended, and say what became of what was accepted."""
    async with enter() as contender:
        clients = Clients(contender.front)
        asking = asyncio.create_task(clients.run())
        began = time.monotonic()
        struck = []
        for kill in kills:
            await asyncio.sleep(kill.pause_seconds)
            struck.append((time.monotonic(), kill.kind))
            await _kill_and_start(contender.broker if kill.kind == BROKER else contender.workers[kill.index])
            on_kill()
        under_kills_seconds = time.monotonic() - began
        clients.stop()
        await asking
        drawings = await asyncio.to_thread(contender.bucket.count_drawings)
        return _report(clients.accepted, struck, drawings, seconds=under_kills_seconds)


async def _kill_and_start(process: Process) -> None:
    process.kill()
    await process.start()


def _report(
    accepted: Sequence[Job], struck: Sequence[tuple[float, str]], drawings: dict[str, int], *, seconds: float
) -> dict[str, Any]:
    waits = [job.finished - job.created for job in accepted if job.finished is not None]
    return {
        "kills": len(struck),
        "accepted": len(accepted),
        "lost": sum(job.finished is None for job in accepted),
        "drawn_more_than_once": sum(drawings.get(str(job.id), 0) > 1 for job in accepted),
        "per_second": round(len(waits) / seconds, 2),
        "wait_seconds": {**percentiles(waits), "max": round(max(waits), 3)} if waits else {},
        "recovery_seconds": {kind: _recovery(accepted, struck, kind) for kind in (BROKER, WORKER)},
    }


def _recovery(accepted: Sequence[Job], struck: Sequence[tuple[float, str]], kind: str) -> dict[str, float]:
    """How long after a kill all was done that was under way at that moment: the wait of its unluckiest client."""
    times = []
    for moment, struck_kind in struck:
        under_way = [job for job in accepted if job.created < moment and (job.finished or moment) > moment]
        ends = [job.finished for job in under_way if job.finished is not None]
        if struck_kind == kind and ends:
            times.append(max(ends) - moment)
    return percentiles(times) if times else {}

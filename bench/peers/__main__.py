"""`python -m bench.peers`: Easel against what a Python team would build instead, whole services with the same model.

Each is started as its documentation says, with its own batching on where it has any, in an environment of its own that
a lock made. The same requests arrive at the same times, whatever the answers: first far more than can be drawn, then as
many as the stock pipeline draws one by one, and then the same again while the worker is killed in the midst of it and
started anew.
"""

import argparse
import asyncio
import math
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report, traces
from bench.peers.contenders import CONTENDERS, Contender, Worker
from bench.report import Report, Target
from bench.traces import Arrival
from easel import logs

SIZE_PIXELS = 128
REQUESTS = 60
SEED = 2
THREADS = 2
#: Requests a second: far more than can be drawn, and about what the stock pipeline draws one by one on two cores.
SATURATION_PER_SECOND = 8.0
CALM_PER_SECOND = 1.8
#: When the worker is killed, as a share of the time in which requests arrive, and how long it takes to be started anew.
KILLED_AT = 0.5
STARTED_AFTER_SECONDS = 1.0
#: What is not there so long after the last request arrived counts as lost.
PATIENCE_SECONDS = 90.0
WARM_UP_REQUESTS = 2


@dataclass(kw_only=True, slots=True)
class Fate:
    """What became of a request. Times are in seconds since it was sent."""

    first_progress: float | None = None
    done: float | None = None
    #: Since the first request of all.
    ended: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one contender did."""

    contender: str
    pictures_per_second: float
    latency_seconds: Mapping[str, float]
    #: In the median; until the picture itself where there is no progress before.
    first_progress_seconds: float
    memory_mib: float
    #: Of as many requests, those that were not done in time although the worker was started anew.
    lost: int
    asked: int


async def measure(options: argparse.Namespace, *, say: Callable[[str], None]) -> list[Outcome]:
    """Measure one contender after the other."""
    outcomes = []
    for name, enter in CONTENDERS.items():
        say(f"{name}: starting")
        async with enter(options.threads) as contender:
            arrivals = traces.make("C", count=options.requests, seed=options.seed, size_pixels=SIZE_PIXELS)
            await _play(contender, arrivals[:WARM_UP_REQUESTS], per_second=1.0)
            say(f"{name}: far more than it can draw")
            full = await _play(contender, arrivals, per_second=SATURATION_PER_SECOND)
            memory_mib = contender.memory_mib()
            say(f"{name}: {CALM_PER_SECOND:g} requests a second")
            calm = await _play(contender, arrivals, per_second=CALM_PER_SECOND)
            say(f"{name}: the same, and its worker is killed")
            span_seconds = arrivals[-1].at / CALM_PER_SECOND
            killing = asyncio.create_task(_kill(contender.worker, after_seconds=KILLED_AT * span_seconds))
            broken = await _play(contender, arrivals, per_second=CALM_PER_SECOND)
            await killing
        outcomes.append(_outcome(name, full=full, calm=calm, broken=broken, memory_mib=memory_mib))
    return outcomes


async def _play(contender: Contender, arrivals: Sequence[Arrival], *, per_second: float) -> list[Fate]:
    """Send requests at their times, and wait for their pictures, but not for ever."""
    began = time.monotonic()
    lives = []
    for arrival in arrivals:
        await asyncio.sleep(max(0.0, began + arrival.at / per_second - time.monotonic()))
        lives.append(asyncio.create_task(_live(contender, arrival, began=began)))
    await asyncio.wait(lives, timeout=PATIENCE_SECONDS)
    for life in lives:
        life.cancel()
    return [await life for life in lives]


async def _live(contender: Contender, arrival: Arrival, *, began: float) -> Fate:
    fate, sent = Fate(), time.monotonic()

    def on_progress() -> None:
        if fate.first_progress is None:
            fate.first_progress = time.monotonic() - sent

    with suppress(asyncio.CancelledError, Exception):
        await contender.front.draw(uuid.uuid4().hex, arrival.request, on_progress)
        fate.done = time.monotonic() - sent
    fate.ended = time.monotonic() - began
    return fate


async def _kill(worker: Worker, *, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    worker.kill()
    await asyncio.sleep(STARTED_AFTER_SECONDS)
    await worker.start()


def _outcome(
    name: str, *, full: Sequence[Fate], calm: Sequence[Fate], broken: Sequence[Fate], memory_mib: float
) -> Outcome:
    waits = sorted(fate.done for fate in calm if fate.done is not None)
    firsts = [fate.first_progress or fate.done or math.inf for fate in calm]
    return Outcome(
        contender=name,
        pictures_per_second=sum(fate.done is not None for fate in full) / max(fate.ended for fate in full),
        latency_seconds={f"p{share}": waits[math.ceil(len(waits) * share / 100) - 1] for share in (50, 99)},
        first_progress_seconds=statistics.median(firsts),
        memory_mib=memory_mib,
        lost=sum(fate.done is None for fate in broken),
        asked=len(broken),
    )


def summarise(outcomes: Sequence[Outcome]) -> Report:
    """Put the outcomes into a report: Easel is to be ahead in every column."""
    easel, *others = outcomes
    return Report(
        name="peers",
        results={"outcomes": [asdict(outcome) for outcome in outcomes]},
        targets=[
            Target(
                name="pictures a second, over the best other",
                value=easel.pictures_per_second / max(other.pictures_per_second for other in others),
                bound=1.0,
                better="higher",
            ),
            *(
                Target(
                    name=f"{share} over the best other's",
                    value=easel.latency_seconds[share] / min(other.latency_seconds[share] for other in others),
                    bound=1.0,
                    better="lower",
                )
                for share in easel.latency_seconds
            ),
            Target(
                name="first progress over the best other's",
                value=easel.first_progress_seconds / min(other.first_progress_seconds for other in others),
                bound=1.0,
                better="lower",
            ),
            Target(
                name="memory over the best other's",
                value=easel.memory_mib / min(other.memory_mib for other in others),
                bound=1.0,
                better="lower",
            ),
            Target(name="lost when the worker is killed", value=easel.lost, bound=0, better="lower"),
        ],
    )


def show(outcomes: Sequence[Mapping[str, Any]], *, console: Console) -> None:
    """Print a line for each."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("service")
    for name in ("pictures/s", "p50", "p99", "first progress", "memory", "lost"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome["contender"],
            f"{outcome['pictures_per_second']:.2f}",
            *(f"{seconds:.2f} s" for seconds in outcome["latency_seconds"].values()),
            f"{outcome['first_progress_seconds']:.2f} s",
            f"{outcome['memory_mib']:.0f} MiB",
            f"{outcome['lost']} of {outcome['asked']}",
        )
    console.print(table)


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    logs.configure(service="bench", level="WARNING")
    console = Console(highlight=False)
    with console.status("measuring") as status:
        outcomes = asyncio.run(measure(options, say=status.update))
    measured = summarise(outcomes)
    show(measured.results["outcomes"], console=console)
    return report.finish(measured, options, console=console)


def _options() -> argparse.Namespace:
    parser = report.arguments("Measure Easel against what a Python team would build instead.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"in each run; {REQUESTS} when absent")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the trace; {SEED} when absent")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"CPU threads for torch; {THREADS} when absent")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""What a million generations cost: all that a gateway does to the record, and one owner's reads in another's flood.

Each operation is measured through the code's own classes on a record of a million generations and, in the same breath,
on one of a thousand; what counts is the ratio. Then a gateway serves the million to two owners. The quiet one reads,
lists and watches, first alone and then while the busy one floods the gateway with all that is slow; beside them a
worker renews. PostgreSQL, the gateway and the callers are processes of their own, on one machine.
"""

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import text

from bench import flood, history, report, worker
from bench.child import Child
from bench.operations import Operations, Prepare, Sample
from bench.report import Report, Target
from bench.watchers import percentiles
from easel import logs
from easel.bus import Bus, BusUnavailable
from easel.embedded import Servers
from easel.embedded.ports import HOST
from easel.embedded.services import Gateway, module_argv
from gateway.record import schema
from gateway.record.database import Database

ROWS = 1_000_000
FEW_ROWS = 1_000
CALLS = 60
#: Thrown away: psycopg prepares a statement at its sixth run, and PostgreSQL settles on a plan at its eleventh.
WARM_UP_CALLS = 12
FLOOD_SECONDS = 20.0

#: A statement that finds its rows by an index goes a level or two deeper; three times the time leaves room for pages
#: that are not at hand.
MAX_RATIO = 3.0
#: These look at all that waits, which admission bounds, and all that is drawn, however much there is besides. A gateway
#: does the one twice a second, the other once.
OF_ALL_THAT_IS_LIVE = ("Queue.count_live", "Attempts.get_overdue")
MAX_LIVE_MS = 50.0
#: Shared out by callers, the machine would leave the quiet owner a small part of itself; it has to get four times that.
MAX_FLOOD_RATIO = sum(flood.CALLERS.values()) / 4
#: A tenth of a lease, of which a worker renews every third.
MAX_RENEWAL_MS = 3_000.0

#: What the quiet owner does, and beside it a worker.
READS = ("get", "list", "watch", "change")
RENEWAL = "renewal"
SLOTS = 8
#: How many generations each owner reads, one after the other.
IDS = 500
WARM_UP_SECONDS = 3.0
#: How many operations are printed.
SHOWN = 12
RENEWAL_PAUSE_SECONDS = 0.1
ENVIRONMENT = {
    "EASEL_LOG_LEVEL": "WARNING",
    "EASEL_MAX_BACKLOG": "100000000",
    "PYTHONPATH": str(Path(__file__).parents[1]),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one operation costs, in milliseconds a call, with few rows and with many."""

    few_ms: Sequence[float]
    many_ms: Sequence[float]

    @property
    def ratio(self) -> float:
        """How many times as long it takes with many rows, by the medians."""
        return statistics.median(self.many_ms) / statistics.median(self.few_ms)


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How long the quiet owner's reads take and a worker's renewals, in milliseconds, alone and in the flood."""

    alone_ms: Mapping[str, Sequence[float]]
    flooded_ms: Mapping[str, Sequence[float]]
    #: How many of these calls and renewals got no answer, both times together.
    unanswered: int
    #: What the busy owner called meanwhile: `{kind: {calls, refused}}`.
    flood: Mapping[str, Mapping[str, int]]
    seconds: float

    def ratio(self, kind: str) -> float:
        """How many times as long a kind of call takes in the flood, by the 99th percentiles."""
        return p(99, self.flooded_ms[kind]) / p(99, self.alone_ms[kind])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured."""

    rows: int
    bytes: int
    costs: Mapping[str, Cost]
    reads: Reads


class OwnersGateway(Gateway):
    """A gateway that is told whose each call is."""

    def argv(self) -> Sequence[str]:
        """Run it in place of the usual one."""
        return module_argv("bench.owners")


async def measure(*, rows: int, calls: int, seconds: float, on_progress: Callable[[int], None]) -> Measured:
    """Measure everything.

    Args:
        rows: How many generations.
        calls: How often each operation is measured.
        seconds: How long the quiet owner reads, each time.
        on_progress: Called with how many generations there are by now.
    """
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        async with Servers(Path(folder) / "servers") as servers:
            many_url = servers.postgres.url
            few_url = await asyncio.to_thread(_fill, many_url, rows=rows, on_progress=on_progress)
            costs = await _compare(few_url, many_url, calls=calls)
            async with _connected(many_url) as database:
                sample = await Sample.take(database)
                size = (await database.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
            reads = await _flood(servers, sample, seconds=seconds)
    return Measured(rows=rows, bytes=int(size), costs=costs, reads=reads)


def _fill(many_url: str, *, rows: int, on_progress: Callable[[int], None]) -> str:
    """Fill a record with many rows, and one beside it with few; return the URL of that."""
    few_url = f"{many_url.rpartition('/')[0]}/few"
    with psycopg.connect(many_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE few")
    for url, count in ((few_url, min(rows, FEW_ROWS)), (many_url, rows)):
        schema.migrate(url)
        history.fill(url, rows=count, on_progress=on_progress)
    return few_url


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_size=1, timeout_seconds=60)
    try:
        yield database
    finally:
        await database.close()


async def _compare(few_url: str, many_url: str, *, calls: int) -> Mapping[str, Cost]:
    """Measure each operation on both records, turn by turn: what else the machine does is a burden to both."""
    async with (
        _connected(few_url) as few,
        _connected(few_url) as few_stage,
        _connected(many_url) as many,
        _connected(many_url) as many_stage,
    ):
        of_few = Operations(few, stage=few_stage, sample=await Sample.take(few_stage)).all()
        of_many = Operations(many, stage=many_stage, sample=await Sample.take(many_stage)).all()
        costs = {}
        for name in of_many:
            took = [(await _time(of_few[name]), await _time(of_many[name])) for _ in range(WARM_UP_CALLS + calls)]
            few_ms, many_ms = zip(*took[WARM_UP_CALLS:], strict=True)
            costs[name] = Cost(few_ms=few_ms, many_ms=many_ms)
        return costs


async def _time(prepare: Prepare) -> float:
    call = await prepare()
    began = time.perf_counter()
    await call()
    return round((time.perf_counter() - began) * 1000, 3)


async def _flood(servers: Servers, sample: Sample, *, seconds: float) -> Reads:
    """Have a gateway serve both owners: the quiet one alone, and then both."""
    gateway = OwnersGateway(
        "gateway",
        target=f"{HOST}:{servers.take_port()}",
        metrics=f"{HOST}:{servers.take_port()}",
        folder=servers.folder,
        environment={**servers.environment(user="gateway"), **ENVIRONMENT},
    )
    await gateway.start()
    try:
        bus = Bus()
        await bus.connect(servers.nats.url("worker"), name="bench")
        await worker.renew(bus, slots=SLOTS)
        async with (
            Child("bench.quiet", gateway.target, *sample.quiet[:IDS]) as quiet,
            Child("bench.flood", gateway.target, *sample.busy[:IDS]) as busy,
        ):
            await _read(quiet, bus, seconds=WARM_UP_SECONDS)
            alone = await _read(quiet, bus, seconds=seconds)
            await busy.ask({"start": True})
            await _read(quiet, bus, seconds=WARM_UP_SECONDS)
            flooded = await _read(quiet, bus, seconds=seconds)
            told = await busy.ask({"stop": True})
        await bus.close()
    finally:
        await gateway.stop()
    return Reads(
        alone_ms=alone["took_ms"],
        flooded_ms=flooded["took_ms"],
        unanswered=alone["refused"] + flooded["refused"],
        flood=told,
        seconds=seconds,
    )


async def _read(quiet: Child, bus: Bus, *, seconds: float) -> dict[str, Any]:
    """Have the quiet owner read for so long, while a worker renews."""
    reading = asyncio.create_task(quiet.ask({"seconds": seconds}))
    renewals_ms, unanswered = [], 0
    while not reading.done():
        began = time.perf_counter()
        try:
            await worker.renew(bus, slots=SLOTS)
        except BusUnavailable:
            unanswered += 1
        renewals_ms.append(round((time.perf_counter() - began) * 1000, 3))
        await asyncio.sleep(RENEWAL_PAUSE_SECONDS)
    answer = await reading
    answer["took_ms"][RENEWAL] = renewals_ms
    answer["refused"] += unanswered
    return answer


def summarise(measured: Measured) -> Report:
    """Put it into a report."""
    return Report(
        name="bounds",
        results={
            "rows": measured.rows,
            "few_rows": FEW_ROWS,
            "bytes": measured.bytes,
            "costs": {
                name: {"ratio": cost.ratio, "few_ms": _spread(cost.few_ms), "many_ms": _spread(cost.many_ms)}
                for name, cost in measured.costs.items()
            },
            "reads": {
                kind: {
                    "alone_ms": _spread(measured.reads.alone_ms[kind]),
                    "flooded_ms": _spread(measured.reads.flooded_ms[kind]),
                }
                for kind in (*READS, RENEWAL)
            },
            "unanswered": measured.reads.unanswered,
            "flood": {"callers": flood.CALLERS, "seconds": measured.reads.seconds, **measured.reads.flood},
        },
        targets=_targets(measured),
    )


def _targets(measured: Measured) -> list[Target]:
    ratios = {name: cost.ratio for name, cost in measured.costs.items() if name not in OF_ALL_THAT_IS_LIVE}
    slowest = max(ratios, key=lambda name: ratios[name])
    bounds = [
        (f"many rows over few, p50: {slowest}", ratios[slowest], MAX_RATIO),
        *((f"{name}, p50 in ms", p(50, measured.costs[name].many_ms), MAX_LIVE_MS) for name in OF_ALL_THAT_IS_LIVE),
        *((f"{kind} in a flood over alone, p99", measured.reads.ratio(kind), MAX_FLOOD_RATIO) for kind in READS),
        ("renewal in a flood, p99 in ms", p(99, measured.reads.flooded_ms[RENEWAL]), MAX_RENEWAL_MS),
        ("calls and renewals without an answer", measured.reads.unanswered, 0),
    ]
    return [Target(name=name, value=value, bound=bound, better="lower") for name, value, bound in bounds]


def _spread(values: Sequence[float]) -> Mapping[str, Any]:
    return {"p50": p(50, values), "p99": p(99, values), "samples": values}


def p(percentile: int, values: Sequence[float]) -> float:
    """Give one percentile; of what was hardly ever answered it is not a number, which keeps within no bound."""
    return percentiles(values)[percentile] if len(values) > 1 else math.nan


def show(measured: Measured, *, console: Console) -> None:
    """Print what stands out."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("p50, ms a call")
    for name in (f"{FEW_ROWS:,}", f"{measured.rows:,}", "ratio", "p99"):
        table.add_column(name, justify="right")
    costs = sorted(measured.costs.items(), key=lambda each: each[1].ratio, reverse=True)
    for name, cost in costs[:SHOWN]:
        row = (p(50, cost.few_ms), p(50, cost.many_ms), cost.ratio, p(99, cost.many_ms))
        table.add_row(name, *(f"{value:.2f}" for value in row))
    console.print(table)
    console.print(f"of {len(costs)} operations, those that a long history costs most; {measured.bytes / 1e9:.1f} GB")
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("ms, a quiet owner's and a worker's")
    for name in ("alone, p50", "p99", "in a flood, p50", "p99", "ratio of p99"):
        table.add_column(name, justify="right")
    for kind in (*READS, RENEWAL):
        alone_ms, flooded_ms = measured.reads.alone_ms[kind], measured.reads.flooded_ms[kind]
        spread = (p(50, alone_ms), p(99, alone_ms), p(50, flooded_ms), p(99, flooded_ms), measured.reads.ratio(kind))
        table.add_row(kind, *(f"{value:.1f}" for value in spread))
    console.print(table)
    told = (f"{each['calls']:,} {kind} ({each['refused']:,} refused)" for kind, each in measured.reads.flood.items())
    console.print(f"the flood, {sum(flood.CALLERS.values())} callers: {', '.join(told)}")


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    logs.configure(service="bench", level="WARNING")
    console = Console(highlight=False)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("generations", total=options.rows)
        measured = asyncio.run(
            measure(
                rows=options.rows,
                calls=options.calls,
                seconds=options.seconds,
                on_progress=lambda count: progress.update(task, completed=count),
            )
        )
    show(measured, console=console)
    return report.finish(summarise(measured), options, console=console)


def _options() -> argparse.Namespace:
    parser = report.arguments("Measure what a long history and another's flood cost.")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"how many generations; {ROWS} when absent")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"of each operation; {CALLS} when absent")
    parser.add_argument("--seconds", type=float, default=FLOOD_SECONDS, help="how long the quiet owner reads")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

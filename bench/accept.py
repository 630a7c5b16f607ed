"""How fast one gateway accepts, as a share of what RPCs and durable rows cost alone.

The limit is `1 / (1 / empty RPCs per second + 1 / bare INSERTs per second)`: a request can be accepted no faster than
an RPC that does nothing and then a row that is committed. All are measured in turn, round after round, on the same
machine with as many clients, and each round is a ratio of its own. The gateway, the empty server, the clients and the
inserter are processes of their own, and every commit waits for the disk.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report, worker
from bench.child import Child
from bench.report import Report, Target
from easel import logs
from easel.bus import Bus
from easel.embedded import Stack

BOUND = 0.5
CLIENTS = 32
ROUNDS = 15
ROUND_SECONDS = 1.5
#: Rounds that are thrown away: caches, prepared statements and the processes' own memory settle in them.
WARM_UP_ROUNDS = 1
#: What makes a commit durable, and what it must be set to.
DURABILITY = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
SLOTS = 8
MAX_BACKLOG = 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """All rates, one after the other."""

    empty_rpcs_per_second: float
    bare_inserts_per_second: float
    accepts_per_second: float
    #: With a live worker, so that requests are dispatched while others are accepted.
    dispatching_accepts_per_second: float
    #: The least, each percentile and the greatest: 101 numbers.
    latency_ms: Sequence[float]

    @property
    def limit_per_second(self) -> float:
        """What an RPC and a row allow."""
        return 1 / (1 / self.empty_rpcs_per_second + 1 / self.bare_inserts_per_second)

    @property
    def share(self) -> float:
        """What acceptance reaches of it."""
        return self.accepts_per_second / self.limit_per_second


class Measurement:
    """Everything that runs while it is measured."""

    def __init__(self, *, stack: Stack, bus: Bus, callers: Child, inserter: Child, empty_target: str) -> None:
        self._stack = stack
        self._bus = bus
        self._callers = callers
        self._inserter = inserter
        self._empty_target = empty_target

    async def round(self, number: int, *, clients: int, seconds: float) -> Round:
        """Measure each once, each time in another order: what one leaves to do for the disk is no other's burden."""
        load = {"clients": clients, "seconds": seconds}
        insert = {"url": self._stack.servers.postgres.url, "connections": clients, "seconds": seconds}
        measurements: dict[str, Callable[[], Awaitable[Any]]] = {
            "empty": lambda: self._callers.ask({"target": self._empty_target, **load}),
            "inserts": lambda: self._inserter.ask(insert),
            "accepts": lambda: self._callers.ask({"target": self._stack.target, **load}),
            "dispatching": lambda: self._accept_while_dispatching(load),
        }
        measured = {}
        order = list(measurements)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            await _empty(self._stack.servers.postgres.url)
            measured[name] = await measurements[name]()
        return Round(
            empty_rpcs_per_second=measured["empty"]["per_second"],
            bare_inserts_per_second=measured["inserts"]["per_second"],
            accepts_per_second=measured["accepts"]["per_second"],
            dispatching_accepts_per_second=measured["dispatching"]["per_second"],
            latency_ms=measured["accepts"]["latency_ms"],
        )

    async def _accept_while_dispatching(self, load: Mapping[str, Any]) -> Any:
        await worker.renew(self._bus, slots=SLOTS)
        accepts = await self._callers.ask({"target": self._stack.target, **load})
        await worker.leave(self._bus)
        return accepts


async def measure(*, rounds: int, clients: int, seconds: float) -> list[Round]:
    """Measure all rounds."""
    environment = {"EASEL_MAX_BACKLOG": str(MAX_BACKLOG)}
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        async with (
            Stack(Path(folder) / "stack", workers=0, environment=environment) as stack,
            Child("bench.empty_rpc") as empty_server,
            Child("bench.callers") as callers,
            Child("bench.bare_insert") as inserter,
        ):
            await _require_durability(stack.servers.postgres.url)
            bus = Bus()
            await bus.connect(stack.servers.nats.url("worker"), name="bench")
            await worker.renew(bus, slots=SLOTS)
            await worker.leave(bus)
            measurement = Measurement(
                stack=stack,
                bus=bus,
                callers=callers,
                inserter=inserter,
                empty_target=(await empty_server.hear())["target"],
            )
            measured = [
                await measurement.round(number, clients=clients, seconds=seconds)
                for number in range(WARM_UP_ROUNDS + rounds)
            ]
            await bus.close()
            return measured[WARM_UP_ROUNDS:]


async def _empty(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("TRUNCATE generations CASCADE")
        await connection.execute("DROP TABLE IF EXISTS bare_generations")
        await connection.execute("CHECKPOINT")


async def _require_durability(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for name, wanted in DURABILITY.items():
            row = await (await connection.execute("SELECT current_setting(%s)", (name,))).fetchone()
            if row != (wanted,):
                raise RuntimeError(f"PostgreSQL's {name} is {row}, not {wanted}: its commits are not durable")


def summarise(rounds: Sequence[Round], *, clients: int) -> Report:
    """Put the rounds into a report."""
    share = statistics.median(each.share for each in rounds)
    return Report(
        name="accept",
        results={
            "clients": clients,
            "durability": DURABILITY,
            "share": {"median": share, "samples": [each.share for each in rounds]},
            "accepts_per_second": statistics.median(each.accepts_per_second for each in rounds),
            "limit_per_second": statistics.median(each.limit_per_second for each in rounds),
            "latency_ms": {"p50": _latency_ms(rounds, 50), "p99": _latency_ms(rounds, 99)},
            "rounds": [asdict(each) for each in rounds],
        },
        targets=[Target(name="accepted requests, share of the limit", value=share, bound=BOUND, better="higher")],
    )


def show(rounds: Sequence[Round], *, clients: int, console: Console) -> None:
    """Print the rates, in medians."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column(f"{clients} clients, median of {len(rounds)}")
    table.add_column("per second", justify="right")
    table.add_row("empty RPCs", _median(each.empty_rpcs_per_second for each in rounds))
    table.add_row("bare INSERTs, committed", _median(each.bare_inserts_per_second for each in rounds))
    table.add_row("the limit: one of each in turn", _median(each.limit_per_second for each in rounds))
    table.add_section()
    table.add_row("accepted", _median(each.accepts_per_second for each in rounds))
    table.add_row("accepted during dispatch", _median(each.dispatching_accepts_per_second for each in rounds))
    console.print(table)
    console.print(f"accepted within {_latency_ms(rounds, 50):.1f} ms (p50), {_latency_ms(rounds, 99):.1f} ms (p99)")


def _median(values: Iterable[float]) -> str:
    return f"{statistics.median(values):,.0f}"


def _latency_ms(rounds: Sequence[Round], percentile: int) -> float:
    return statistics.median(each.latency_ms[percentile] for each in rounds)


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    logs.configure(service="bench", level="WARNING")
    console = Console(highlight=False)
    with console.status("measuring"):
        rounds = asyncio.run(measure(rounds=options.rounds, clients=options.clients, seconds=options.seconds))
    show(rounds, clients=options.clients, console=console)
    return report.finish(summarise(rounds, clients=options.clients), options, console=console)


def _options() -> argparse.Namespace:
    parser = report.arguments("Measure how fast one gateway accepts.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often; {ROUNDS} when absent")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"at the same time; {CLIENTS} when absent")
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="of each rate of a round")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

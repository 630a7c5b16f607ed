"""Two thousand watchers of one gateway, each with an event a second: how late those come, and what a watcher costs.

Then the gateway is restarted, and restarted once more after a kill with half of the results published while it is down:
everybody must come to the end of what they watch, without a change of state left out. Watchers (`easel.client`, unaware
of all this), the worker (scripted, on real NATS) and the gateway are processes of their own.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report
from bench.callers import SPEC
from bench.child import Child
from bench.report import Report, Target
from bench.watchers import percentiles
from easel import logs
from easel.client import Client, GenerationSpec
from easel.embedded import Stack

WATCHES = 2_000
CONNECTIONS = 200
STEADY_SECONDS = 20.0
MAX_LATENCY_MS = 250.0
MAX_KIB_PER_WATCHER = 64.0

#: How many processes the watchers are spread over.
PROCESSES = 2
WARM_UP_WATCHES = 50
BATCH = 100
SAMPLE_SECONDS = 0.25
#: Watchers come to their ends at about this rate, not all at once.
ENDS_PER_SECOND = 100
PATIENCE_SECONDS = 60.0


@dataclass(kw_only=True, slots=True)
class Measured:
    """Everything that was measured."""

    watches: int
    #: Of the gateway: warmed up; with everything drawn and nobody watching; while all watch.
    idle_bytes: int = 0
    drawing_bytes: int = 0
    watched_bytes: Sequence[int] = ()
    connections: int = 0
    #: Until each watcher has seen its generation, all of them opened at once.
    opening_seconds: float = 0
    #: From the worker's publish to the client: of reports, and of results with nothing wrong.
    latencies_ms: Sequence[float] = ()
    final_latencies_ms: Sequence[float] = ()
    #: How many reports reached their watcher, of those published; a slow watcher gets the latest, not all.
    delivered: float = 0
    #: How many went on after the gateway was back, and how long that took: restarted, and killed.
    resumed: dict[str, int] = field(default_factory=dict)
    resuming_seconds: dict[str, float] = field(default_factory=dict)
    #: Broken streams that were mended.
    breaks: int = 0
    missed_ends: int = 0
    skipped_changes: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def kib_per_watcher(self) -> float:
        """What a watcher adds to the idle gateway, at the peak."""
        return (max(self.watched_bytes) - self.idle_bytes) / self.watches / 1024


class Measurement:
    """A gateway, a worker and watchers."""

    def __init__(self, *, stack: Stack, client: Client, worker: Child, watchers: Sequence[Child]) -> None:
        self._stack = stack
        self._client = client
        self._worker = worker
        self._watchers = watchers

    async def warm_up(self) -> None:
        """Have a few generations watched to their ends, so that what is loaded once is loaded."""
        await self._open(WARM_UP_WATCHES, connections=PROCESSES)
        await self._finish(WARM_UP_WATCHES, seconds=1)
        await self._ask({"ended": True, "within_seconds": PATIENCE_SECONDS})

    async def watch(self, measured: Measured, *, connections: int, seconds: float) -> None:
        """Watch for so long with nothing wrong, and then to the end."""
        measured.idle_bytes = self._resident_bytes()
        generation_ids = await self._draw(measured.watches)
        await asyncio.sleep(1)
        measured.drawing_bytes = self._resident_bytes()
        measured.opening_seconds = await self._watch(generation_ids, connections=connections)
        await self._ask({"collect": True})
        measured.connections = self._connections()
        measured.watched_bytes = await self._sample(seconds)
        measured.latencies_ms = _joined(await self._ask({"collect": True}), "latencies_ms")
        measured.delivered = len(measured.latencies_ms) / (measured.watches * seconds)
        await self._finish(measured.watches, seconds=measured.watches / ENDS_PER_SECOND)
        measured.final_latencies_ms = await self._end(measured)

    async def restart(self, measured: Measured, *, connections: int) -> None:
        """Watch over a restart and a kill, to the end."""
        gateway = self._stack.gateways[0]
        await self._open(measured.watches, connections=connections)
        await gateway.restart()
        await self._resume(measured, "restarted")
        gateway.kill()
        await self._finish(measured.watches // 2, seconds=1)
        await gateway.start()
        await self._resume(measured, "killed")
        await self._finish(measured.watches - measured.watches // 2, seconds=measured.watches / ENDS_PER_SECOND / 2)
        await self._end(measured)

    async def _open(self, count: int, *, connections: int) -> None:
        await self._watch(await self._draw(count), connections=connections)

    async def _draw(self, count: int) -> Sequence[str]:
        """Have so many generations accepted, and drawn by the worker."""
        spec = GenerationSpec()
        spec.CopyFrom(SPEC)
        spec.steps = 100
        generation_ids: list[str] = []
        while len(generation_ids) < count:
            batch = await self._client.batch_create([spec] * min(BATCH, count - len(generation_ids)))
            generation_ids += [generation.id for generation in batch]
        await self._worker.ask({"take": count})
        return generation_ids

    async def _watch(self, generation_ids: Sequence[str], *, connections: int) -> float:
        began = time.monotonic()
        opened = await asyncio.gather(
            *(
                watchers.ask({"watch": generation_ids[index::PROCESSES], "connections": connections // PROCESSES})
                for index, watchers in enumerate(self._watchers)
            )
        )
        if sum(one["seen"] for one in opened) < len(generation_ids):
            raise RuntimeError(f"not every watcher has seen its generation: {opened}")
        return time.monotonic() - began

    async def _finish(self, count: int, *, seconds: float) -> None:
        await self._worker.ask({"finish": count, "seconds": seconds})

    async def _resume(self, measured: Measured, how: str) -> None:
        began = time.monotonic()
        answers = await self._ask({"resumed": True, "within_seconds": PATIENCE_SECONDS})
        measured.resuming_seconds[how] = time.monotonic() - began
        measured.resumed[how] = sum(answer["resumed"] for answer in answers)

    async def _end(self, measured: Measured) -> Sequence[float]:
        answers = await self._ask({"ended": True, "within_seconds": PATIENCE_SECONDS})
        measured.missed_ends += measured.watches - sum(answer["succeeded"] for answer in answers)
        measured.skipped_changes += sum(answer["skipped_changes"] for answer in answers)
        measured.breaks += sum(answer["breaks"] for answer in answers)
        measured.errors += itertools.chain.from_iterable(answer["errors"] for answer in answers)
        return _joined(answers, "final_latencies_ms")

    async def _sample(self, seconds: float) -> Sequence[int]:
        """Look at the gateway's memory for so long."""
        samples = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            samples.append(self._resident_bytes())
            await asyncio.sleep(SAMPLE_SECONDS)
        return samples

    async def _ask(self, question: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        return await asyncio.gather(*(watchers.ask(question) for watchers in self._watchers))

    @property
    def _gateway(self) -> psutil.Process:
        return psutil.Process(self._stack.gateways[0].pid)

    def _resident_bytes(self) -> int:
        return int(self._gateway.memory_info().rss)

    def _connections(self) -> int:
        """Count who is connected to the gateway's port, but for this process."""
        port = int(self._stack.target.rpartition(":")[2])
        found = self._gateway.net_connections("tcp")
        return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found) - 1


async def measure(*, watches: int, connections: int, seconds: float) -> Measured:
    """Measure everything."""
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="easel-bench-"))
        environment = {"EASEL_LOG_LEVEL": "WARNING"}
        stack = await opened.enter_async_context(Stack(Path(folder) / "stack", workers=0, environment=environment))
        nats_url = stack.servers.nats.url("worker")
        worker = await opened.enter_async_context(Child("bench.drawing", nats_url, str(watches)))
        children = [Child("bench.watchers", stack.target) for _ in range(PROCESSES)]
        watchers = [await opened.enter_async_context(child) for child in children]
        client = await opened.enter_async_context(Client(stack.target))
        await _until_known(client)
        measurement = Measurement(stack=stack, client=client, worker=worker, watchers=watchers)
        measured = Measured(watches=watches)
        await measurement.warm_up()
        await measurement.watch(measured, connections=connections, seconds=seconds)
        await measurement.restart(measured, connections=connections)
        return measured


async def _until_known(client: Client) -> None:
    """Wait until the worker has reported its model."""
    while not await client.list_models():  # noqa: ASYNC110  # asked, not told
        await asyncio.sleep(SAMPLE_SECONDS)


def _joined(answers: Sequence[Mapping[str, Any]], name: str) -> Sequence[float]:
    return [value for answer in answers for value in answer[name]]


def summarise(measured: Measured, *, connections: int) -> Report:
    """Put it into a report."""
    latencies, final_latencies = percentiles(measured.latencies_ms), percentiles(measured.final_latencies_ms)
    results = asdict(measured) | {"latencies_ms": latencies, "final_latencies_ms": final_latencies}
    return Report(
        name="watch",
        results=results,
        targets=[
            Target(name="missed ends", value=measured.missed_ends, bound=0, better="lower"),
            Target(name="changes of state left out", value=measured.skipped_changes, bound=0, better="lower"),
            Target(name="p99 from publish to client, ms", value=latencies[99], bound=MAX_LATENCY_MS, better="lower"),
            Target(
                name="KiB per watcher, at the peak",
                value=measured.kib_per_watcher,
                bound=MAX_KIB_PER_WATCHER,
                better="lower",
            ),
            Target(name="connections", value=measured.connections, bound=connections, better="higher"),
            *(
                Target(name=f"resumed, gateway {how}", value=count, bound=measured.watches, better="higher")
                for how, count in measured.resumed.items()
            ),
        ],
    )


def show(measured: Measured, *, console: Console) -> None:
    """Print the numbers."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column(f"{measured.watches:,} watchers over {measured.connections} connections")
    table.add_column("", justify="right")
    table.add_row("all opened at once within, s", f"{measured.opening_seconds:.1f}")
    latencies, final_latencies = percentiles(measured.latencies_ms), percentiles(measured.final_latencies_ms)
    table.add_row("publish to client, p50 / p99, ms", f"{latencies[50]:.0f} / {latencies[99]:.0f}")
    table.add_row("result to client, p50 / p99, ms", f"{final_latencies[50]:.0f} / {final_latencies[99]:.0f}")
    table.add_row("reports delivered", f"{measured.delivered:.1%}")
    table.add_section()
    table.add_row("gateway, idle, MiB", _mib(measured.idle_bytes))
    table.add_row("gateway, all drawn and nobody watching, MiB", _mib(measured.drawing_bytes))
    table.add_row("gateway, watched, MiB", _mib(statistics.median(measured.watched_bytes)))
    table.add_section()
    for how, seconds in measured.resuming_seconds.items():
        table.add_row(f"gateway {how}: all go on within, s", f"{seconds:.1f}")
    console.print(table)


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 1024 / 1024:.0f}"


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    logs.configure(service="bench", level="WARNING")
    console = Console(highlight=False)
    with console.status("measuring"):
        measured = asyncio.run(
            measure(watches=options.watches, connections=options.connections, seconds=options.seconds)
        )
    show(measured, console=console)
    return report.finish(summarise(measured, connections=options.connections), options, console=console)


def _options() -> argparse.Namespace:
    parser = report.arguments("Measure thousands of watchers of one gateway.")
    parser.add_argument("--watches", type=int, default=WATCHES, help=f"how many; {WATCHES} when absent")
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help=f"they share so many; {CONNECTIONS} when absent"
    )
    parser.add_argument("--seconds", type=float, default=STEADY_SECONDS, help="how long they watch undisturbed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""What batching at the level of steps gives, against the stock pipeline one by one and in whole batches.

All three draw the same requests with the same model, on the same threads, asked by the same client at the same times,
whatever the answers; encoding and storing the pictures overlap with drawing for all of them. The ceiling is what the
device gives if it does nothing but evaluate batches of the best size, always full.
"""

import argparse
import asyncio
import functools
import itertools
import math
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from pydantic import SecretStr
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report, traces
from bench.contest import Contest, Fate
from bench.report import Report, Target
from bench.traces import Arrival
from bench.whole_batches import WholeBatchLoop
from easel import logs, objects
from easel.embedded.folder import DataFolder
from easel.embedded.ports import PortBlock
from easel.embedded.s3 import S3
from inference import models
from inference.engine.batch_loop import DECODED_AT_ONCE
from inference.engine.loops import Loop, loop_for
from inference.engine.pulse import Pulse
from inference.engine.serial_loop import SerialLoop
from inference.engine.threaded_engine import ThreadedEngine
from inference.engine.whole_call import WholeCallAdapter
from inference.pictures import Encoder
from inference.settings import WorkerSettings
from inference.store import MinioObjectStore

MODEL = "postcard"
DEVICE = "cpu"
SIZE_PIXELS = 128
REQUESTS = 80
SEED = 1
THREADS = 2
DTYPE = "float32"
#: Requests come so many times as fast as the stock pipeline can draw them one by one.
SATURATION = 4.0
#: Over this part of the work throughput is measured: before it batches fill, and after it there may be none waiting.
MEASURED_WORK = (0.1, 0.7)
#: Pictures that the stock pipeline draws together at most; two rows each with guidance.
WHOLE_BATCH = 16
CEILING_ROWS = (8, 16, 32, 64)
CEILING_STEPS = 12
STORE_TIMEOUT_SECONDS = 60.0

SERIAL, WHOLE, EASEL = "stock, one by one", "stock, whole batches", "easel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One trace, played to one contender."""

    contender: str
    trace: str
    #: Arrivals, as a share of what the stock pipeline can draw one by one.
    rate: float
    rows_per_second: float
    pictures_per_second: float
    latency_seconds: Mapping[str, float]
    #: How long each client waited for its picture, in order.
    waits_seconds: Sequence[float]
    #: How many steps each cancelled request still made.
    steps_after_cancel: Sequence[int]
    #: How long the slot of each cancelled request was still taken.
    cancel_to_free_seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """What the device gives at best."""

    #: In batches that are always full, by their size.
    rows_per_second: Mapping[int, float]
    #: For one picture, with others.
    decode_seconds: float
    #: In the trace.
    rows_per_picture: float

    @property
    def best(self) -> float:
        """Rows a second in batches of the best size."""
        return max(self.rows_per_second.values())

    @property
    def best_with_decoding(self) -> float:
        """Rows a second where each picture has to be decoded, too."""
        return self.rows_per_picture / (self.rows_per_picture / self.best + self.decode_seconds)


class Stopwatch:
    """Adds up how long functions take that are called one after the other."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Time a function from now on."""

        @functools.wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


class Easel:
    """Easel's engine, and where its time goes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.model_time, self.tick_time = Stopwatch(), Stopwatch()
        self.rows: list[int] = []
        self.adapter: Any = None

    def load(self, pulse: Pulse) -> Loop:
        """Load it as a worker does."""
        settings = WorkerSettings(model=self._options.model, dtype=self._options.dtype, device=self._options.device)
        adapter: Any = models.load(models.locate(self._options.model), settings, threads=self._options.threads)
        loop = loop_for(adapter, pulse, most_rows=settings.max_rows)
        adapter.warm_up()
        pipeline = adapter._pipeline  # noqa: SLF001  # to tell the model's time from the engine's
        pipeline.unet.forward = self.model_time.around(pipeline.unet.forward)
        pipeline.vae.decode = self.model_time.around(pipeline.vae.decode)
        adapter.encode = self.model_time.around(adapter.encode)
        adapter.wait = self.model_time.around(adapter.wait)
        adapter.evaluate = self._counted(adapter.evaluate)
        loop.tick = self.tick_time.around(loop.tick)  # type: ignore[method-assign]
        self.adapter = adapter
        return loop

    @property
    def bookkeeping_share(self) -> float:
        """What of a tick is neither the denoiser's nor the decoder's nor the encoders'."""
        return 1 - self.model_time.seconds / self.tick_time.seconds

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.model_time.seconds = self.tick_time.seconds = 0.0
        self.rows.clear()

    def _counted(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate_and_count(states: Sequence[Any]) -> Any:
            self.rows.append(sum(state.rows for state in states))
            return evaluate(states)

        return evaluate_and_count


class Bench:
    """The contenders, and what they share."""

    def __init__(self, options: argparse.Namespace, store: MinioObjectStore) -> None:
        self._options = options
        self._store = store
        self._encoder = Encoder()
        self.easel = Easel(options)
        self.serial_gap_seconds = math.nan

    async def run(self, contender: str, trace: str, *, rate: float) -> Run:
        """Play a trace to a contender, its requests coming at a share of what can be drawn one by one."""
        arrivals = self._arrivals(trace)
        async with self._started(contender) as engine:
            contest = Contest(engine, self._encoder, self._store)
            self.easel.reset()
            # How fast drawing one by one is, is not known before it was tried: then everything comes at once.
            gap = 0.0 if math.isnan(self.serial_gap_seconds) else self.serial_gap_seconds / rate
            fates = await contest.play(arrivals, gap_seconds=gap)
        return _run_of(contender, trace, rate, fates)

    @asynccontextmanager
    async def _started(self, contender: str) -> AsyncIterator[ThreadedEngine]:
        loaders: dict[str, Callable[[Pulse], Loop]] = {
            SERIAL: lambda pulse: SerialLoop(WholeCallAdapter(self._stock(), name=MODEL), pulse),
            WHOLE: lambda pulse: WholeBatchLoop(self._stock(), pulse, most_pictures=self._options.whole_batch),
            EASEL: self.easel.load,
        }
        engine = ThreadedEngine(loaders[contender])
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    def _stock(self) -> Any:
        pipeline = DiffusionPipeline.from_pretrained(
            models.locate(self._options.model), dtype=getattr(torch, self._options.dtype)
        )
        pipeline.set_progress_bar_config(disable=True)
        torch.set_num_threads(self._options.threads)
        return pipeline.to(self._options.device)

    def ceiling(self) -> Ceiling:
        """Measure the device with batches that are always full, and nothing else."""
        adapter = self.easel.adapter
        request = traces.make("C", count=1, seed=0, size_pixels=self._options.size)[0].request
        request = replace(request, guidance_scale=1.0)
        conditioning = adapter.encode(request)
        rates = {}
        for rows in CEILING_ROWS:
            states = [adapter.begin(request, conditioning, seed=seed) for seed in range(rows)]
            seconds = []
            for _ in range(CEILING_STEPS):
                began = time.perf_counter()
                adapter.evaluate(states)
                adapter.wait()
                seconds.append(time.perf_counter() - began)
            rates[rows] = rows / statistics.median(seconds)
        began = time.perf_counter()
        adapter.decode(states[:DECODED_AT_ONCE])
        decode_seconds = (time.perf_counter() - began) / DECODED_AT_ONCE
        rows_per_picture = statistics.mean(arrival.work for arrival in self._arrivals("C"))
        return Ceiling(rows_per_second=rates, decode_seconds=decode_seconds, rows_per_picture=rows_per_picture)

    def _arrivals(self, trace: str) -> Sequence[Arrival]:
        return traces.make(trace, count=self._options.requests, seed=self._options.seed, size_pixels=self._options.size)


async def measure(options: argparse.Namespace, *, say: Callable[[str], None]) -> Report:
    """Measure everything, in one run."""
    async with storage() as store:
        bench = Bench(options, store)
        runs: dict[tuple[str, str, float], Run] = {}

        async def run(contender: str, trace: str, rate: float) -> Run:
            say(f"{contender}: trace {trace} at {rate:g} of what one by one can be drawn")
            runs[contender, trace, rate] = await bench.run(contender, trace, rate=rate)
            return runs[contender, trace, rate]

        serial = await run(SERIAL, "C", SATURATION)
        bench.serial_gap_seconds = 1 / serial.pictures_per_second
        await run(WHOLE, "C", SATURATION)
        await run(EASEL, "C", SATURATION)
        saturated = {"bookkeeping_share": bench.easel.bookkeeping_share, "rows": list(bench.easel.rows)}
        say("the ceiling")
        # On a thread that ends: while a second one that has used OpenMP is there, on few cores all of them wait longer.
        with ThreadPoolExecutor(1) as thread:
            ceiling = await asyncio.get_running_loop().run_in_executor(thread, bench.ceiling)
        for contender in (SERIAL, WHOLE, EASEL):
            await run(contender, "C", 1.0)
        for contender in (WHOLE, EASEL):
            await run(contender, "E", 1.0)
    return summarise(runs, ceiling=ceiling, saturated=saturated)


def summarise(runs: Mapping[tuple[str, str, float], Run], *, ceiling: Ceiling, saturated: Mapping[str, Any]) -> Report:
    """Put the runs into a report."""
    easel, whole = (runs[contender, "C", SATURATION] for contender in (EASEL, WHOLE))
    calm, whole_calm = (runs[contender, "C", 1.0] for contender in (EASEL, WHOLE))
    cancelled = runs[EASEL, "E", 1.0]
    return Report(
        name="engine",
        results={
            "runs": [asdict(run) for run in runs.values()],
            "ceiling": {**asdict(ceiling), "best": ceiling.best, "best_with_decoding": ceiling.best_with_decoding},
            "saturated": {**saturated, "mean_rows": statistics.mean(saturated["rows"])},
        },
        targets=[
            Target(
                name="at saturation, share of the ceiling",
                value=easel.rows_per_second / ceiling.best,
                bound=0.9,
                better="higher",
            ),
            Target(
                name="the same, where pictures are decoded too",
                value=easel.rows_per_second / ceiling.best_with_decoding,
                bound=0.9,
                better="higher",
            ),
            Target(
                name="at saturation, over whole batches",
                value=easel.rows_per_second / whole.rows_per_second,
                bound=1.3,
                better="higher",
            ),
            Target(
                name="at 1.0x, p99 over whole batches'",
                value=calm.latency_seconds["p99"] / whole_calm.latency_seconds["p99"],
                bound=0.5,
                better="lower",
            ),
            Target(
                name="steps after a cancel, at most",
                value=max(cancelled.steps_after_cancel),
                bound=1,
                better="lower",
            ),
            Target(
                name="bookkeeping and schedulers, share of a tick",
                value=saturated["bookkeeping_share"],
                bound=0.1,
                better="lower",
            ),
        ],
    )


def _run_of(contender: str, trace: str, rate: float, fates: Sequence[Fate]) -> Run:
    finished = sorted(fate.seconds for fate in fates if fate.finished)
    given_up = [fate for fate in fates if fate.cancelled is not None]
    return Run(
        contender=contender,
        trace=trace,
        rate=rate,
        rows_per_second=_rows_per_second(fates),
        pictures_per_second=len(finished) / max(fate.ended for fate in fates),
        latency_seconds={f"p{share}": _percentile(finished, share) for share in (50, 95, 99)},
        waits_seconds=finished,
        steps_after_cancel=[fate.steps[-1][1] - (fate.arrival.cancelled_at_step or 0) for fate in given_up],
        cancel_to_free_seconds=[fate.ended - (fate.cancelled or 0.0) for fate in given_up],
    )


def _rows_per_second(fates: Sequence[Fate]) -> float:
    """Divide the work of the middle of a run by the time that it took."""
    done = sorted(rows for fate in fates for rows in fate.rows())
    work = list(itertools.accumulate(rows for _, rows in done))
    first, last = (bisect_left(work, share * work[-1]) for share in MEASURED_WORK)
    return (work[last] - work[first]) / (done[last][0] - done[first][0])


def _percentile(ordered: Sequence[float], share: int) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share / 100) - 1)]


def show(results: Mapping[str, Any], *, console: Console) -> None:
    """Print the runs."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("contender")
    for name in ("trace", "rate", "rows/s", "pictures/s", "p50", "p95", "p99", "cancel to free"):
        table.add_column(name, justify="right")
    for run in results["runs"]:
        freed = run["cancel_to_free_seconds"]
        table.add_row(
            run["contender"],
            run["trace"],
            f"{run['rate']:g}x",
            f"{run['rows_per_second']:.1f}",
            f"{run['pictures_per_second']:.2f}",
            *(f"{run['latency_seconds'][name]:.2f} s" for name in ("p50", "p95", "p99")),
            f"{max(freed):.2f} s" if freed else "",
        )
    console.print(table)
    ceiling = results["ceiling"]
    rates = ", ".join(f"{rate:.0f} rows/s by {rows}" for rows, rate in ceiling["rows_per_second"].items())
    console.print(f"ceiling: {rates}; with decoding {ceiling['best_with_decoding']:.0f} rows/s")
    console.print(f"rows in a step at saturation: {results['saturated']['mean_rows']:.1f} on average")


@asynccontextmanager
async def storage() -> AsyncIterator[MinioObjectStore]:
    """Run a bucket for the pictures."""
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as path:
        folder, ports = DataFolder(Path(path)), PortBlock.claim()
        folder.hold()
        server = S3(folder=folder, ports=ports)
        await server.start()
        settings = WorkerSettings(s3_access_key=server.access_key, s3_secret_key=SecretStr(server.secret_key))
        client = objects.connect(settings, endpoint=server.endpoint)
        store = MinioObjectStore(client, bucket="bench", timeout_seconds=STORE_TIMEOUT_SECONDS)
        await store.ensure_bucket()
        yield store
        store.close()
        await server.stop()
        ports.release()
        folder.release()


def main() -> int:
    """Measure, print, and return the exit status."""
    given = options()
    logs.configure(service="bench", level="WARNING")
    models.quieten(offline=True)
    console = Console(highlight=False)
    with console.status("measuring") as status:
        measured = asyncio.run(measure(given, say=status.update))
    show(measured.results, console=console)
    return report.finish(measured, given, console=console)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = report.arguments("Measure what batching at the level of steps gives.")
    parser.add_argument("--model", default=MODEL, help=f"the model; {MODEL} when absent")
    parser.add_argument("--device", default=DEVICE, help=f"where to draw; {DEVICE} when absent")
    parser.add_argument("--size", type=int, default=SIZE_PIXELS, help=f"pixels a side; {SIZE_PIXELS} when absent")
    parser.add_argument("--dtype", default=DTYPE, help=f"its precision; {DTYPE} when absent")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"CPU threads for torch; {THREADS} when absent")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"in each trace; {REQUESTS} when absent")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the traces; {SEED} when absent")
    parser.add_argument(
        "--whole-batch", type=int, default=WHOLE_BATCH, help=f"pictures in a whole batch; {WHOLE_BATCH} when absent"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

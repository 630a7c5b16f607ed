"""`python -m bench.gpu`: what Easel makes of a GPU, with models of the sizes that people use.

Their weights are random, which changes no time, so that nothing is downloaded. For each model: what a step takes by its
number of rows and by the worker's settings, beside what the GPU gives at most (see `bench.levers`); and what the stock
pipeline one by one, in whole batches, and the engine make of unequal requests, which come far faster than one by one
they can be drawn (see `bench.engine`).
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import engine, levers, random_models, report
from bench.engine import EASEL, SATURATION, SERIAL, WHOLE, Bench, Run
from bench.report import Report, Target
from easel import logs
from inference import models

DEVICE = "cuda"
DTYPE = "float16"
THREADS = 8
REQUESTS = 60
SEED = 1
WHOLE_BATCH = 8
STEPS, CONTESTS = "steps", "contests"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model at a size, and the trace that is played to it."""

    size_pixels: int
    rows: Sequence[int]
    contest_size_pixels: int
    trace: str


SUBJECTS: Mapping[str, Subject] = {
    "sd15": Subject(size_pixels=512, rows=(1, 2, 4, 8, 16, 32), contest_size_pixels=512, trace="C"),
    # As what was distilled from it is used: few steps, no guidance, small pictures.
    "sdxl": Subject(size_pixels=1024, rows=(1, 2, 4, 8, 16), contest_size_pixels=512, trace="F"),
}
#: On SD1.5, unequal requests at saturation.
LEAST_GAIN = 3.0


def measure(options: argparse.Namespace, *, say: Callable[[str], None]) -> Report:
    """Measure every model that the options name, one after the other."""
    steps, contests = {}, {}
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="easel-bench-") as path:
            say(f"{name}: random weights")
            dtype = getattr(torch, options.dtype)
            folder = random_models.make(name, Path(path) / name, device=options.device, dtype=dtype)
            levers.free()
            if STEPS in options.parts:
                steps[name] = _steps(name, folder, options, say=say)
                levers.free()
            if CONTESTS in options.parts:
                contests[name] = asyncio.run(_contest(name, folder, options, say=say))
                levers.free()
    return summarise(steps, contests, device=levers.device_name(options.device))


def _steps(name: str, folder: Path, options: argparse.Namespace, *, say: Callable[[str], None]) -> Mapping[str, Any]:
    subject = SUBJECTS[name]
    given = argparse.Namespace(
        model=str(folder),
        device=options.device,
        size=options.size or subject.size_pixels,
        threads=options.threads,
        rows=subject.rows,
        steps=levers.STEPS,
        levers=options.levers,
    )
    results = levers.measure(given, say=lambda what: say(f"{name}: {what}")).results
    return {**results, "model": name}


async def _contest(name: str, folder: Path, options: argparse.Namespace, *, say: Callable[[str], None]) -> list[Run]:
    subject = SUBJECTS[name]
    given = argparse.Namespace(
        model=str(folder),
        device=options.device,
        dtype=options.dtype,
        size=options.size or subject.contest_size_pixels,
        threads=options.threads,
        requests=options.requests,
        seed=SEED,
        whole_batch=WHOLE_BATCH,
    )
    async with engine.storage() as store:
        bench = Bench(given, store)
        runs = []
        for contender in (SERIAL, WHOLE, EASEL):
            say(f"{name}: {contender}, trace {subject.trace}")
            runs.append(await bench.run(contender, subject.trace, rate=SATURATION))
            if contender == SERIAL:
                bench.serial_gap_seconds = 1 / runs[-1].pictures_per_second
            levers.free()
    return runs


def summarise(steps: Mapping[str, Mapping[str, Any]], contests: Mapping[str, Sequence[Run]], *, device: str) -> Report:
    """Put it into a report."""
    return Report(
        name="gpu",
        results={
            "device": device,
            "steps": steps,
            "contests": {name: [asdict(run) for run in runs] for name, runs in contests.items()},
        },
        targets=[
            Target(
                name=f"{name}, trace {SUBJECTS[name].trace}: pictures a second, over one by one",
                value=_gain(runs),
                bound=LEAST_GAIN if name == "sd15" else 1.0,
                better="higher",
            )
            for name, runs in contests.items()
        ],
    )


def _gain(runs: Sequence[Run]) -> float:
    rates = {run.contender: run.pictures_per_second for run in runs}
    return rates[EASEL] / rates.get(SERIAL, math.nan)


def show(results: Mapping[str, Any], *, console: Console) -> None:
    """Print a table for each model's steps, and one for all contests."""
    console.print(results["device"])
    for name, steps in results["steps"].items():
        console.print(f"{name} at {steps['size_pixels']} x {steps['size_pixels']}")
        levers.show(steps, console=console)
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    for column in ("model", "contender", "trace"):
        table.add_column(column)
    for column in ("rows/s", "pictures/s", "p50", "p99"):
        table.add_column(column, justify="right")
    for name, runs in results["contests"].items():
        for run in runs:
            table.add_row(
                name,
                run["contender"],
                run["trace"],
                f"{run['rows_per_second']:.1f}",
                f"{run['pictures_per_second']:.2f}",
                *(f"{run['latency_seconds'][share]:.2f} s" for share in ("p50", "p99")),
            )
    if table.row_count:
        console.print(table)


def main() -> int:
    """Measure, print, and return the exit status."""
    given = options()
    logs.configure(service="bench", level="WARNING")
    models.quieten(offline=True)
    console = Console(highlight=False)
    if given.device == "cuda" and not torch.cuda.is_available():
        console.print("torch finds no GPU here: `--device cpu` shows that this runs, and nothing else", style="red")
        return 1
    with console.status("measuring") as status:
        measured = measure(given, say=status.update)
    show(measured.results, console=console)
    return report.finish(measured, given, console=console)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = report.arguments("Measure what Easel makes of a GPU.")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="which; all when absent")
    parser.add_argument(
        "--parts", nargs="+", choices=(STEPS, CONTESTS), default=[STEPS, CONTESTS], help="all when absent"
    )
    parser.add_argument("--device", default=DEVICE, choices=sorted(levers.DEFAULT_LEVERS), help=f"{DEVICE} when absent")
    parser.add_argument("--dtype", default=DTYPE, help=f"of the contests; {DTYPE} when absent")
    parser.add_argument("--size", type=int, help="pixels a side; what people use when absent")
    parser.add_argument("--levers", nargs="+", choices=levers.LEVERS, help="which settings; what may pay when absent")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"CPU threads for torch; {THREADS} when absent")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"in each trace; {REQUESTS} when absent")
    given = parser.parse_args()
    given.levers = given.levers or levers.DEFAULT_LEVERS[given.device]
    return given


if __name__ == "__main__":
    sys.exit(main())

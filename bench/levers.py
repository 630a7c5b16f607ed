"""`python -m bench.levers`: what a step takes by its number of rows, and what each setting of a worker makes of that.

Each setting is a row of the table: a precision, with the weights' order or the compiler on top. The same rows are
evaluated as in a worker, by its own adapter, one setting after the other.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bench import random_models, report
from bench.report import Report
from easel import logs
from inference import models
from inference.engine import pipelines
from inference.engine.adapter import OutOfMemory
from inference.settings import WorkerSettings

MODEL = "postcard"
DEVICE = "cpu"
SIZE_PIXELS = 128
THREADS = 2
ROWS = (1, 2, 4, 8, 16, 32)
#: Of so many steps the median counts; those before it are not measured.
STEPS = 7
WARM_UP_STEPS = 2
COMPILE_TIMEOUT_SECONDS = 900.0
POLL_SECONDS = 0.1
PROMPT = "a castle on a hill at dawn"
#: A product of two square matrices tells what the device gives at most.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
PRODUCTS = 10

#: By the name that the table has for them, what a worker is told.
LEVERS: Mapping[str, Mapping[str, Any]] = {
    "float32": {"dtype": "float32"},
    "float32, channels_last": {"dtype": "float32", "channels_last": True},
    "float32, compiled": {"dtype": "float32", "compile": True},
    "float16": {"dtype": "float16"},
    "float16, channels_last": {"dtype": "float16", "channels_last": True},
    "float16, compiled": {"dtype": "float16", "compile": True},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, channels_last": {"dtype": "bfloat16", "channels_last": True},
    "bfloat16, compiled": {"dtype": "bfloat16", "compile": True},
    "bfloat16, channels_last, compiled": {"dtype": "bfloat16", "channels_last": True, "compile": True},
}
#: On a CPU half precision is emulated.
DEFAULT_LEVERS = {
    "cpu": [name for name in LEVERS if not name.startswith("float16")],
    "cuda": [name for name in LEVERS if not name.startswith("float32")],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One setting."""

    lever: str
    #: By the number of rows, as far as memory allowed.
    step_seconds: Mapping[int, float]
    decode_seconds: float
    #: What the compiler took; 0 without it.
    compile_seconds: float
    peak_memory_bytes: int


def measure(options: argparse.Namespace, *, say: Callable[[str], None]) -> Report:
    """Measure all settings, one after the other.

    Args:
        options: Those of the command line.
        say: Is told what is measured.
    """
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        model = _locate(options, Path(folder), say=say)
        row_flops = 0
        measured = []
        for lever in options.levers:
            say(f"{lever}: loading")
            studio = _Studio(model, LEVERS[lever], options)
            row_flops = row_flops or studio.row_flops()
            measured.append(_measure(studio, lever, options, say=say))
            del studio
            free()
    say("what the device gives at most")
    peaks = {dtype: _peak_flops(getattr(torch, dtype), options.device) for dtype in ("float32", "bfloat16")}
    return summarise(measured, options=options, row_flops=row_flops, peaks=peaks)


def summarise(
    measured: Sequence[Measured], *, options: argparse.Namespace, row_flops: int, peaks: Mapping[str, float]
) -> Report:
    """Put it into a report. There are no targets: what pays is up to the device."""
    return Report(
        name="levers",
        results={
            "model": options.model,
            "size_pixels": options.size,
            "device": device_name(options.device),
            "row_flops": row_flops,
            "peak_flops_per_second": peaks,
            "levers": [asdict(each) for each in measured],
        },
        targets=[],
    )


class _Studio:
    """A worker's adapter with one setting."""

    def __init__(self, model: str, lever: Mapping[str, Any], options: argparse.Namespace) -> None:
        self._options = options
        self.compiles = bool(lever.get("compile"))
        settings = WorkerSettings(model=model, device=options.device, **lever)
        self.adapter: Any = models.load(model, settings, threads=options.threads)
        self.adapter.warm_up()
        self.device = torch.device(options.device)

    def compile(self) -> float:
        """Wait until the denoiser is compiled, and return the seconds that took."""
        plain, began = self.adapter._denoiser, time.monotonic()  # noqa: SLF001  # nothing else tells when it is there
        self.adapter.tune()
        while self.adapter._denoiser is plain:  # noqa: SLF001
            if time.monotonic() > began + COMPILE_TIMEOUT_SECONDS:
                raise TimeoutError("the denoiser was not compiled: its log says why")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def row_flops(self) -> int:
        """Count the floating-point operations of a row: a multiplication and an addition are two."""
        states = self._states(1)
        with FlopCounterMode(display=False) as counter:
            self.adapter.evaluate(states)
        return int(counter.get_total_flops())

    def step_seconds(self, rows: int) -> float:
        """Time a step, its wait included."""
        states = self._states(rows)
        seconds = []
        for _ in range(WARM_UP_STEPS + self._options.steps):
            began = time.perf_counter()
            self.adapter.evaluate(states)
            self.adapter.wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[WARM_UP_STEPS:])

    def decode_seconds(self) -> float:
        """Time the decoding of one picture."""
        states = self._states(1)
        seconds = []
        for _ in range(WARM_UP_STEPS + self._options.steps):
            began = time.perf_counter()
            self.adapter.decode(states)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[WARM_UP_STEPS:])

    def _states(self, rows: int) -> Sequence[Any]:
        size = self._options.size
        traits = self.adapter.traits
        request = replace(traits.default_request(), prompt=PROMPT, width=size, height=size, guidance_scale=0.0)
        conditioning = self.adapter.encode(request)
        return [self.adapter.begin(request, conditioning, seed=seed) for seed in range(rows)]


def _measure(studio: _Studio, lever: str, options: argparse.Namespace, *, say: Callable[[str], None]) -> Measured:
    compile_seconds = 0.0
    if studio.compiles:
        say(f"{lever}: compiling")
        compile_seconds = studio.compile()
    _forget_peak(studio.device)
    step_seconds: dict[int, float] = {}
    for rows in options.rows:
        say(f"{lever}: {rows} rows")
        try:
            step_seconds[rows] = studio.step_seconds(rows)
        except OutOfMemory:
            break
    return Measured(
        lever=lever,
        step_seconds=step_seconds,
        decode_seconds=studio.decode_seconds(),
        compile_seconds=compile_seconds,
        peak_memory_bytes=_peak_memory(studio.device),
    )


def _locate(options: argparse.Namespace, folder: Path, *, say: Callable[[str], None]) -> str:
    if options.model not in random_models.MODELS:
        return models.locate(options.model)
    say(f"{options.model}: random weights")
    dtype = torch.float32 if options.device == "cpu" else torch.float16
    return str(random_models.make(options.model, folder / options.model, device=options.device, dtype=dtype))


def device_name(device: str) -> str:
    """Say what draws: a GPU's own name, or `cpu`."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def _peak_flops(dtype: torch.dtype, device: str) -> float:
    """Measure the operations a second of a product of large matrices."""
    side = MATRIX_SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        left @ right
        pipelines.wait_for(torch.device(device))
        seconds.append(time.perf_counter() - began)
    return float(2 * side**3 / min(seconds))


def free() -> None:
    """Give back the memory of what is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> int:
    """Say how much of a GPU's memory was taken at most; 0 for a CPU, which does not tell."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


def show(results: Mapping[str, Any], *, console: Console) -> None:
    """Print a line for each setting: milliseconds of a step, and what that is of the device's most."""
    counts = sorted({int(rows) for lever in results["levers"] for rows in lever["step_seconds"]})
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("ms by rows", no_wrap=True)
    for name in (*map(str, counts), "decode", "TFLOP/s", "of bf16"):
        table.add_column(name, justify="right")
    for lever in results["levers"]:
        by_rows = {int(rows): seconds for rows, seconds in lever["step_seconds"].items()}
        flops = best_flops(lever, row_flops=results["row_flops"])
        table.add_row(
            lever["lever"],
            *(f"{1000 * by_rows[rows]:.1f}" if rows in by_rows else "" for rows in counts),
            f"{1000 * lever['decode_seconds']:.1f}",
            f"{flops / 1e12:.2f}",
            f"{flops / results['peak_flops_per_second']['bfloat16']:.0%}",
        )
    console.print(table)


def best_flops(lever: Mapping[str, Any], *, row_flops: int) -> float:
    """Give the most operations a second that any number of rows reached."""
    return max(float(int(rows) * row_flops / seconds) for rows, seconds in lever["step_seconds"].items())


def main() -> int:
    """Measure, print, and return the exit status."""
    given = options()
    logs.configure(service="bench", level="WARNING")
    models.quieten(offline=True)
    console = Console(highlight=False)
    with console.status("measuring") as status:
        measured = measure(given, say=status.update)
    show(measured.results, console=console)
    return report.finish(measured, given, console=console)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = report.arguments("Measure what a step takes, and what each setting makes of that.")
    parser.add_argument(
        "--model", default=MODEL, help=f"a model, or {' or '.join(random_models.MODELS)}; {MODEL} when absent"
    )
    parser.add_argument("--device", default=DEVICE, choices=sorted(DEFAULT_LEVERS), help=f"{DEVICE} when absent")
    parser.add_argument("--size", type=int, default=SIZE_PIXELS, help=f"pixels a side; {SIZE_PIXELS} when absent")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"CPU threads for torch; {THREADS} when absent")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="how many rows a step has")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"that count; {STEPS} when absent")
    parser.add_argument("--levers", nargs="+", choices=LEVERS, help="which settings; what may pay there when absent")
    given = parser.parse_args()
    given.levers = given.levers or DEFAULT_LEVERS[given.device]
    return given


if __name__ == "__main__":
    sys.exit(main())

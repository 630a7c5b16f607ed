"""How long people wait before anything happens: `easel --help`, and `easel up` until a picture could be drawn.

`easel up` is started twice on one folder: the first time it makes a database cluster.
"""

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report
from bench.report import Report, Target

MAX_HELP_SECONDS = 0.5
HELPS = 11
PATIENCE_SECONDS = 300.0
#: What `easel up` prints once it is ready.
READY = b"Easel is up"
#: What help has no use for and what takes long to import.
HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "sqlalchemy",
    "grpc",
    "google.protobuf",
    "nats",
    "psycopg",
    "minio",
    "numpy",
)

SHOW_HELP = f"""
import json, sys
from easel.cli.main import app
try:
    app(["--help"])
except SystemExit:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How long everything took."""

    help_seconds: Sequence[float]
    #: What help imported all the same of what it has no use for.
    heavy_imports: Sequence[str]
    #: `easel up` in an empty folder, and once more in the same one.
    first_up_seconds: float
    next_up_seconds: float


def measure() -> Measured:
    """Measure everything, one after the other."""
    show_help()
    help_seconds = [show_help() for _ in range(HELPS)]
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        return Measured(
            help_seconds=help_seconds,
            heavy_imports=imported_by_help(),
            first_up_seconds=asyncio.run(up(Path(folder))),
            next_up_seconds=asyncio.run(up(Path(folder))),
        )


def show_help() -> float:
    """Run `easel --help` and return how many seconds it took."""
    began = time.perf_counter()
    subprocess.run([_easel(), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def imported_by_help() -> Sequence[str]:
    """Show help in a Python of its own, and return which heavy modules it imported."""
    ran = subprocess.run([sys.executable, "-P", "-c", SHOW_HELP], check=True, capture_output=True, text=True)
    imported: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return imported


async def up(folder: Path) -> float:
    """Run `easel up` until it is ready, stop it, and return how many seconds it took to be ready.

    Raises:
        RuntimeError: it ended before.
    """
    began = time.perf_counter()
    arguments = ("up", "--data", str(folder), "--port", "0")
    process = await asyncio.create_subprocess_exec(_easel(), *arguments, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while READY not in (line := await process.stdout.readline()):
                if not line:
                    raise RuntimeError(f"easel up ended with status {await process.wait()}")
        return time.perf_counter() - began
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


def summarise(measured: Measured) -> Report:
    """Put it into a report."""
    return Report(
        name="startup",
        results=asdict(measured) | {"median_help_seconds": statistics.median(measured.help_seconds)},
        targets=[
            Target(
                name="easel --help, median, s",
                value=statistics.median(measured.help_seconds),
                bound=MAX_HELP_SECONDS,
                better="lower",
            ),
            Target(name="heavy imports of easel --help", value=len(measured.heavy_imports), bound=0, better="lower"),
        ],
    )


def show(measured: Measured, *, console: Console) -> None:
    """Print the times."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("from start to ready")
    table.add_column("s", justify="right")
    table.add_row("easel --help", f"{statistics.median(measured.help_seconds):.2f}")
    table.add_row("easel up, in an empty folder", f"{measured.first_up_seconds:.1f}")
    table.add_row("easel up, the next time", f"{measured.next_up_seconds:.1f}")
    console.print(table)


def _easel() -> str:
    return str(Path(sys.executable).with_name("easel"))


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    console = Console(highlight=False)
    with console.status("measuring"):
        measured = measure()
    show(measured, console=console)
    return report.finish(summarise(measured), options, console=console)


def _options() -> argparse.Namespace:
    return report.arguments("Measure how long the command line and a stack take to start.").parse_args()


if __name__ == "__main__":
    sys.exit(main())

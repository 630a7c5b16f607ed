"""`python -m tests.chaos`: break everything at random under load, and see that nothing is lost or doubled."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos import outcome, scale
from tests.chaos.run import Plan, Ran, run
from tests.chaos.schedule import Strike, plan

DESCRIPTION = """\
Breaks a whole Easel at random under load, and checks what every client was told: nothing is lost, doubled or wrong.

A kill is any of: kill -9, SIGSTOP and later SIGCONT, a restart in order, each of a gateway, a worker, NATS, PostgreSQL
or S3, and NATS wiped. The seed repeats what is broken in which order and for how long; how the load meets it differs
from run to run.
"""

EPILOG = """\
A long run is split into shards: with --shard 2/5 the second fifth of the kills of this seed is done, in a stack of its
own. With --out FOLDER the outcome is written there under a name of its own, and a shard whose outcome is there already
is not done again: a series that was interrupted is resumed by the same commands, and the shard in hand is begun anew.
`python -m tests.chaos.report FOLDER` sums a folder up. The exit status is 1 when anything was found.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit status."""
    options = _options(arguments)
    console = Console(highlight=False)
    file: Path | None = options.json
    if options.out is not None:
        first, of = options.shard
        file = options.out / f"seed-{options.seed}-kills-{options.kills}-shard-{first}-of-{of}.json"
        if file.exists():
            console.print(f"{file} is there already")
            return 0
    folder = _folder(options.folder)
    _keep_log(folder)
    planned = _plan(options)
    _introduce(planned, folder, console=console)
    ran = _run(planned, folder, console=console)
    summary = outcome.summarise(ran, planned)
    outcome.show(summary, console=console)
    if file is not None:
        _write(file, json.dumps(summary, indent=1) + "\n")
    if ran.findings or options.keep:
        console.print(f"logs, journal and evidence: {folder}", soft_wrap=True)
    elif options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if ran.findings else 0


def _run(planned: Plan, folder: Path, *, console: Console) -> Ran:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=len(planned.schedule))

        def on_strike(strike: Strike) -> None:
            progress.update(bar, advance=1, description=f"{strike.action} {strike.component}")

        try:
            return asyncio.run(run(planned, folder=folder, on_strike=on_strike))
        except BaseException:
            console.print(f"logs and journal: {folder}", soft_wrap=True)
            raise


def _plan(options: argparse.Namespace) -> Plan:
    schedule = plan(seed=options.seed, kills=options.kills)
    number, of = options.shard
    begin, end = (len(schedule) * part // of for part in (number - 1, number))
    return Plan(
        seed=options.seed,
        schedule=schedule[begin:end],
        clients=options.clients,
        pace_seconds=options.pace,
        limit_seconds=options.minutes * 60,
    )


def _introduce(planned: Plan, folder: Path, *, console: Console) -> None:
    console.print(
        f"{len(planned.schedule)} kills, one every {planned.pace_seconds:g} s, of seed {planned.seed}; "
        f"{planned.clients} clients; in {folder}",
        soft_wrap=True,
    )
    console.print(
        "scaled down: " + " ".join(f"{name}={value}" for name, value in scale.SETTINGS.items()), soft_wrap=True
    )


def _folder(given: Path | None) -> Path:
    if given is None:
        return Path(tempfile.mkdtemp(prefix="easel-chaos-"))
    given.mkdir(parents=True, exist_ok=True)
    if (given / "journal.jsonl").exists():
        raise SystemExit(f"{given} holds another run: name a new folder")
    return given


def _keep_log(folder: Path) -> None:
    logger.remove()
    logger.add(folder / "chaos.log", level="DEBUG")


def _write(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _shard(text: str) -> tuple[int, int]:
    number, of = (int(part) for part in text.split("/"))
    if not 1 <= number <= of:
        raise ValueError(text)
    return number, of


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="repeats the schedule (1)")
    parser.add_argument("--kills", type=int, default=200, help="how many, all shards together (200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome there")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="only this part of the kills")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the outcome there, unless it is there already"
    )
    parser.add_argument("--minutes", type=float, default=30, help="begin no kill later than this (30)")
    parser.add_argument("--pace", type=float, default=scale.PACE_SECONDS, help="seconds between two kills, on average")
    parser.add_argument("--clients", type=int, default=scale.CLIENTS, help="how many, each with one visit at a time")
    parser.add_argument("--folder", type=Path, help="where the stack's data and logs go; else a temporary one")
    parser.add_argument("--keep", action="store_true", help="keep that folder also when nothing was found")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Who runs for a data folder: one record per child process, so that what a killed run left behind can be ended."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from loguru import logger

#: Two readings of one process's start may differ by the rounding and adjusting of the system's clock.
SAME_START_SECONDS = 2.0
END_TIMEOUT_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.002


def record(file: Path, *, pid: int, argv: Sequence[str]) -> None:
    """Write down a child that was just started."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": pid, "start": psutil.Process(pid).create_time(), "argv": list(argv)}))
    partial.replace(file)


def end_leftovers(folder: Path) -> None:
    """End every recorded process which still runs, with its children, and forget the records."""
    for file in sorted(folder.glob("*.json")):
        leftover = _find(file)
        if leftover is not None:
            logger.info("ending {} (process {}) of an earlier run", file.stem, leftover.pid, action="end_leftover")
            end_tree(leftover)
        file.unlink(missing_ok=True)


def end_tree(process: psutil.Process) -> None:
    """Kill a process that is no child of ours, with its descendants, and wait until all are gone."""
    end_all([process, *descendants(process)])


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """List the children of a process and theirs; once it is dead nobody can tell any more."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def end_all(processes: Sequence[psutil.Process]) -> None:
    """Kill processes and wait until they are gone, or are dead bodies that nobody collects."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + END_TIMEOUT_SECONDS
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process lives; a dead one that its parent has not noticed yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _find(file: Path) -> psutil.Process | None:
    """Find the recorded process, unless its id belongs to another one by now."""
    try:
        known = json.loads(file.read_text())
        process = psutil.Process(known["pid"])
        same_start = abs(process.create_time() - known["start"]) < SAME_START_SECONDS
        same_argv = process.cmdline()[-len(known["argv"]) :] == known["argv"]
    except (psutil.Error, ValueError, KeyError):
        return None
    return process if same_start and same_argv else None

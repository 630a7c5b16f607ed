"""Keeps the processes of a stack running."""

import asyncio
import time
from collections.abc import Callable

from easel.embedded.failure import StackFailed
from easel.embedded.process import Process
from easel.embedded.stack import Stack

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

#: Whoever has run this long begins again with the shortest pause.
PROVEN_SECONDS = 60.0

Report = Callable[[str], None]


async def supervise(stack: Stack, *, report: Report) -> None:
    """Start every process again that ends, on the same ports and data, until cancelled.

    Args:
        stack: A stack that was started.
        report: Called with a line for people whenever a process ended or is back.
    """
    async with asyncio.TaskGroup() as group:
        for process in stack.processes:
            group.create_task(_keep_running(process, report=report))


async def _keep_running(process: Process, *, report: Report) -> None:
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        since = time.monotonic()
        status = await process.wait()
        if time.monotonic() - since > PROVEN_SECONDS:
            pause_seconds = FIRST_PAUSE_SECONDS
        report(f"{process.name} ended with status {status}; starting it again in {pause_seconds:g} s ({process.log})")
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        await _start_again(process, report=report)


async def _start_again(process: Process, *, report: Report) -> None:
    # A part of it may have outlived the rest.
    process.kill()
    try:
        await process.start()
    except StackFailed as failure:
        report(str(failure))
        process.kill()
    else:
        report(f"{process.name} is back")

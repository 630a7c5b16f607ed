"""Starts a process again each time that it dies, as every machine with workers on it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from easel.embedded.failure import StackFailed
from easel.embedded.process import Process


@asynccontextmanager
async def kept_running(process: Process) -> AsyncIterator[None]:
    """Keep a process running for as long as this lasts; afterwards it runs, too."""
    keeping = asyncio.create_task(_keep(process))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        process.kill()
        await process.start()


async def _keep(process: Process) -> None:
    while True:
        await process.wait()
        process.kill()
        try:
            await process.start()
        except StackFailed:
            # It died while it started: a worker may have taken what kills it before anybody counted it.
            continue

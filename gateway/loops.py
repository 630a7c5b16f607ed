"""Work that is done again and again until the gateway stops."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from easel.bus import BusUnavailable
from gateway.bucket import StorageUnavailable
from gateway.errors import DatabaseUnavailable

#: The wait after a step that failed.
OUTAGE_SECONDS = 0.5


class Loop:
    """Runs a step after every interval, and at once on a nudge; many nudges in the pause after a step make one step.

    A step may fail: an outage of PostgreSQL, NATS or S3 is logged once, anything else each time with its traceback, and
    the step is tried again.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[None]], *, interval_seconds: float, pause_seconds: float = 0
    ) -> None:
        self._name = name
        self._step = step
        self._interval_seconds = interval_seconds
        self._pause_seconds = pause_seconds
        self._nudged = asyncio.Event()
        self._out = False
        self._stopping = False

    def nudge(self) -> None:
        """Have the next step start now."""
        self._nudged.set()

    def stop(self) -> None:
        """Have it end after the step in hand."""
        self._stopping = True
        self.nudge()

    async def run(self) -> None:
        """Run until stopped or cancelled."""
        while not self._stopping:
            self._nudged.clear()
            await asyncio.sleep(self._pause_seconds if await self._succeeds() else OUTAGE_SECONDS)
            if self._stopping:
                return
            try:
                async with asyncio.timeout(self._interval_seconds):
                    await self._nudged.wait()
            except TimeoutError:
                pass

    async def _succeeds(self) -> bool:
        try:
            await self._step()
        except (DatabaseUnavailable, BusUnavailable, StorageUnavailable) as error:
            if not self._out:
                logger.warning("{} waits: {}", self._name, error, action="outage")
            self._out = True
            return False
        except Exception:  # noqa: BLE001
            logger.exception("{} failed", self._name, action="defect")
            return False
        if self._out:
            logger.info("{} goes on", self._name, action="recovery")
        self._out = False
        return True

"""Delivers how an attempt ended, until the stream of results has it."""

import asyncio
import random

from loguru import logger

from easel import crash, subjects
from easel.bus import Bus, BusUnavailable
from easel.crash import CrashPoint
from easel.worker.v1.result_pb2 import Result

FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 2.0


class Results:
    """The way of results to the gateways."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def deliver(self, result: Result) -> None:
        """Publish until it is acknowledged, for as long as it takes.

        The message id lets the stream drop most repetitions, and the gateways ignore the rest. The claim is part of it:
        a record that was restored from a backup gives the number of an attempt out once more.
        """
        message_id = f"{result.generation_id}:{result.attempt}:{result.claim_id}"
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                await self._bus.publish(subjects.result(result.generation_id), result, message_id=message_id)
            except BusUnavailable as error:
                logger.warning("a result is not acknowledged yet: {}", error, action="deliver")
            else:
                crash.reach(CrashPoint.AFTER_RESULT)
                return
            await asyncio.sleep(wait_seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter
            wait_seconds = min(2 * wait_seconds, MAX_WAIT_SECONDS)

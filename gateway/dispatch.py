"""Dispatch: publishes a hint for each waiting generation as soon as its model's workers have room for it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from loguru import logger

from easel import subjects
from easel.bus import Bus, BusUnavailable
from easel.worker.v1.task_pb2 import TaskHint
from gateway.record.generation import Change
from gateway.record.generations import Generations

#: How many publishes wait for their acknowledgement at the same time.
PUBLISH_CONCURRENCY = 32


class Dispatcher:
    """Moves QUEUED generations to the bus. The QUEUED row is the outbox."""

    def __init__(self, generations: Generations, bus: Bus, *, liveness: timedelta) -> None:
        self._generations = generations
        self._bus = bus
        self._liveness = liveness
        self._slots = asyncio.Semaphore(PUBLISH_CONCURRENCY)

    async def dispatch(self) -> None:
        """Mark the generations whose turn it is and commit, then publish: no lock is held across a publish.

        What is marked and then not published, because of a crash or an outage, is found by the sweep.

        Raises:
            BusUnavailable: some hints were not published; they are not marked any more.
        """
        if not self._bus.connected_seconds:
            raise BusUnavailable("not connected")
        marked = await self._generations.mark_dispatched(liveness=self._liveness)
        failed = [change for change in await self._publish(marked) if change is not None]
        if failed:
            await self._generations.unmark_dispatched([change.generation_id for change in failed])
            raise BusUnavailable(f"{len(failed)} of {len(marked)} hints were not published")

    async def _publish(self, changes: Sequence[Change]) -> list[Change | None]:
        return await asyncio.gather(*(self._publish_one(change) for change in changes))

    async def _publish_one(self, change: Change) -> Change | None:
        """Publish one hint; give it back if that failed."""
        subject = subjects.task(change.model, change.generation_id)
        async with self._slots:
            try:
                # Without a message id: publishing again replaces the hint, and must not be taken for a duplicate.
                await self._bus.publish(subject, TaskHint(generation_id=change.generation_id))
            except BusUnavailable:
                return change
        logger.debug("published a hint", action="dispatch", generation_id=change.generation_id)
        return None

"""Dispatch: publishes a hint for each waiting generation as soon as its model's workers have room for it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from loguru import logger
from opentelemetry.trace import SpanKind

from easel import crash, subjects, tracing
from easel.bus import Bus, BusUnavailable
from easel.crash import CrashPoint
from easel.worker.v1.task_pb2 import TaskHint
from gateway.metrics import Metrics
from gateway.record.queue import DueHint, Queue

#: How many publishes wait for their acknowledgement at the same time.
PUBLISH_CONCURRENCY = 32


class Dispatcher:
    """Moves QUEUED generations to the bus. The QUEUED row is the outbox."""

    def __init__(self, queue: Queue, bus: Bus, *, liveness: timedelta, metrics: Metrics) -> None:
        self._queue = queue
        self._bus = bus
        self._liveness = liveness
        self._metrics = metrics
        self._slots = asyncio.Semaphore(PUBLISH_CONCURRENCY)

    async def dispatch(self) -> None:
        """Mark the generations whose turn it is and commit, then publish: no lock is held across a publish.

        What is marked and then not published, because of a crash or an outage, is found by the sweep.

        Raises:
            BusUnavailable: some hints were not published; they are not marked any more.
        """
        if not self._bus.connected_seconds:
            raise BusUnavailable("not connected")
        marked = await self._queue.mark_dispatched(liveness=self._liveness)
        if marked:
            crash.reach(CrashPoint.AFTER_MARK)
        failed = [hint for hint in await self._publish(marked) if hint is not None]
        if failed:
            await self._queue.unmark_dispatched([hint.generation_id for hint in failed])
            raise BusUnavailable(f"{len(failed)} of {len(marked)} hints were not published")

    async def _publish(self, hints: Sequence[DueHint]) -> list[DueHint | None]:
        return await asyncio.gather(*(self._publish_one(hint) for hint in hints))

    async def _publish_one(self, hint: DueHint) -> DueHint | None:
        """Publish one hint; give it back if that failed."""
        subject = subjects.task(hint.model, hint.generation_id)
        producing = tracing.span(
            "publish hint", parent=hint.trace_parent, kind=SpanKind.PRODUCER, generation_id=hint.generation_id
        )
        async with self._slots:
            try:
                # Without a message id: publishing again replaces the hint, and must not be taken for a duplicate.
                with producing:
                    await self._bus.publish(subject, TaskHint(generation_id=hint.generation_id))
            except BusUnavailable:
                return hint
        crash.reach(CrashPoint.AFTER_PUBLISH)
        self._metrics.dispatch_age_seconds.labels(model=hint.model).observe(hint.age.total_seconds())
        logger.debug("published a hint", action="dispatch", generation_id=hint.generation_id)
        return None

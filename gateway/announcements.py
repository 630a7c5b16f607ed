"""What is told to others after a change was committed. All of it may be lost: each has a repair of its own."""

from collections.abc import Callable

import nats.errors
import nats.js.errors
from loguru import logger

from easel import subjects
from easel.bus import Bus, BusUnavailable
from easel.worker.v1.task_pb2 import CancelNotice, Nudge
from gateway.metrics import Metrics
from gateway.record.generation import Change


class Announcements:
    """Tells the watchers, the dispatcher, the workers and the metrics of a committed change."""

    def __init__(self, bus: Bus, *, nudge_dispatch: Callable[[], None], metrics: Metrics) -> None:
        self._bus = bus
        self._metrics = metrics
        self._nudge_dispatch = nudge_dispatch

    async def announce(self, *changes: Change, stop_workers: bool = False) -> None:
        """Tell of changes; with `stop_workers` also those who may be drawing these generations.

        Repairs: the hub's re-check for a watcher, the dispatcher's poll, and for a worker its next renewal or claim.
        """
        for change in changes:
            self._metrics.count_change(change)
            why = {"reason": change.failure_reason} if change.failure_reason else {}
            logger.info(
                "{}", change.state, action="transition", generation_id=change.generation_id,
                revision=change.revision, **why,
            )  # fmt: skip
            if stop_workers:
                await self._bus.tell(subjects.CANCEL, CancelNotice(generation_id=change.generation_id))
            await self.remind(change)
        # Whatever changed, there may be room for another hint now, or one more to be published.
        self._nudge_dispatch()

    async def remind(self, change: Change) -> None:
        """Tell the watchers of a change that was announced before; whoever did may not have come so far."""
        nudge = Nudge(generation_id=change.generation_id, revision=change.revision)
        await self._bus.tell(subjects.NUDGE, nudge)

    async def withdraw_hint(self, change: Change) -> None:
        """Take the hint of a generation that is final off the bus, so that no worker asks in vain.

        By its sequence, read just now: if the stream is wiped in between, another hint goes, and the sweep publishes it
        again. Purged by its subject while a worker has it, it would make the consumer forget older ones for ever: they
        stay in the stream, and nobody gets them (nats-server 2.15).
        """
        subject = subjects.task(change.model, change.generation_id)
        try:
            jetstream = self._bus.jetstream
            hint = await jetstream.get_last_msg(subjects.TASKS_STREAM, subject)
            await jetstream.delete_msg(subjects.TASKS_STREAM, int(hint.seq or 0))
        except (BusUnavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            logger.debug("a hint stays: {!r}", error, action="withdraw", generation_id=change.generation_id)

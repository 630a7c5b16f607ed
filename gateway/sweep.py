"""The sweep: finds what was lost on the way and repairs it. Every gateway sweeps, with the same right."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import nats.errors
import nats.js.errors
from loguru import logger

from easel import subjects
from easel.bus import Bus, BusUnavailable
from gateway.announcements import Announcements
from gateway.bucket import StorageUnavailable
from gateway.metrics import Metrics
from gateway.recall import Recall
from gateway.record.attempts import Attempts, RetryPolicy
from gateway.record.models import Models
from gateway.record.queue import Queue

Answer = TypeVar("Answer")

#: A hint that was marked only just now may not have been published yet.
HINT_GRACE = timedelta(seconds=3)

#: A hint that is out for so long is published again, there or not: three times as long as a worker may keep one.
HINT_PATIENCE = timedelta(seconds=30)

#: How many overdue generations are looked for among the results at the same time.
RECALL_CONCURRENCY = 8

#: A worker that was not heard of for so long is forgotten.
WORKER_RETENTION = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment: what was overdue then may be judged once all results published before it are in the record."""

    #: On the database's clock.
    time: datetime
    #: The last message of RESULTS at that moment, and which incarnation of the stream it is of.
    last_sequence: int
    stream_created: datetime | None


class Sweep:
    """Repairs lost hints at once, and judges leases and deadlines only when it is sure.

    Sure means: PostgreSQL and NATS have both been within reach for one full lease, so that every living worker had the
    time to renew and to hand in what it finished; and every result handed in before the mark has been projected. So
    after an outage finished work is recorded before anyone is declared lost; and under steady load, where some result
    is always on its way, judging still goes on, one mark behind. A record that was restored from a backup may have
    forgotten what it had projected; so what is overdue is looked for among the results once more.
    """

    def __init__(
        self,
        bus: Bus,
        attempts: Attempts,
        queue: Queue,
        models: Models,
        *,
        recall: Recall,
        announcements: Announcements,
        lease: timedelta,
        policy: RetryPolicy,
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._attempts = attempts
        self._queue = queue
        self._models = models
        self._recall = recall
        self._announcements = announcements
        self._lease = lease
        self._policy = policy
        self._metrics = metrics
        self._mark: Mark | None = None
        self._steady_since: float | None = None
        self._last_round = time.monotonic()

    async def sweep(self) -> None:
        """Do one round.

        Raises:
            BusUnavailable, DatabaseUnavailable: judging starts again from the beginning, after a full lease.
        """
        try:
            await self._republish_lost_hints()
            await self._republish_old_hints()
            await self._judge()
            await self._models.forget_silent_workers(WORKER_RETENTION)
        except Exception:
            self._steady_since = self._mark = None
            raise

    async def _republish_lost_hints(self) -> None:
        # The rows first: a hint that is published after this look is not missed by the next one.
        for model, marked in (await self._queue.get_dispatched(older_than=HINT_GRACE)).items():
            present = await self._hints_present(model)
            lost = [generation_id for generation_id in marked if generation_id not in present]
            if not lost:
                continue
            count = await self._queue.unmark_dispatched(
                lost, marked_before=max(marked.values()) + timedelta(microseconds=1)
            )
            if count:
                logger.warning("{} hints of {} were lost", count, model, action="hints_lost")
                await self._announcements.announce()

    async def _republish_old_hints(self) -> None:
        """Publish hints again that are there, and perhaps for nobody: a consumer may have forgotten them.

        Those that only wait for a worker are put in order with the rest of the queue. A worker that gets one twice is
        told so when it claims.
        """
        for model, marked in (await self._queue.get_dispatched(older_than=HINT_PATIENCE)).items():
            count = await self._queue.unmark_dispatched(
                list(marked), marked_before=max(marked.values()) + timedelta(microseconds=1)
            )
            if count:
                logger.debug("{} hints of {} have been out for long", count, model, action="hints_old")
                await self._announcements.announce()

    async def _hints_present(self, model: str) -> set[str]:
        info = await _answer(
            self._bus.jetstream.stream_info(subjects.TASKS_STREAM, subjects_filter=subjects.tasks_of(model))
        )
        return {subject.rsplit(".", 1)[-1] for subject in info.state.subjects or ()}

    async def _judge(self) -> None:
        if not self._is_steady():
            self._mark = None
            return
        if self._mark is not None and await self._is_projected(self._mark):
            overdue_before = self._mark.time
            overdue = await self._without_forgotten(await self._attempts.get_overdue(overdue_before=overdue_before))
            lost = await self._attempts.requeue_lost(overdue_before=overdue_before, policy=self._policy, among=overdue)
            self._metrics.count_lost(lost)
            expired = await self._attempts.expire(overdue_before=overdue_before, among=overdue)
            # A worker that comes back with a lost attempt hears of it at its next renewal; an expired one is stopped.
            await self._announcements.announce(*lost)
            await self._announcements.announce(*expired, stop_workers=True)
            self._mark = None
        if self._mark is None:
            self._mark = await self._take_mark()

    async def _without_forgotten(self, generation_ids: Sequence[str]) -> list[str]:
        """Recall what the record has forgotten of these; leave out those of which nobody can tell now."""
        judgeable: list[str] = []
        slots = asyncio.Semaphore(RECALL_CONCURRENCY)

        async def recall(generation_id: str) -> None:
            async with slots:
                try:
                    await self._recall.recall(generation_id)
                except StorageUnavailable as error:
                    logger.warning("not judged: {}", error, action="not_judged", generation_id=generation_id)
                else:
                    judgeable.append(generation_id)

        await asyncio.gather(*map(recall, generation_ids))
        return judgeable

    def _is_steady(self) -> bool:
        """Whether everything has been within reach for a full lease, as far as this process was awake to see it."""
        now = time.monotonic()
        slept = now - self._last_round > self._lease.total_seconds() / 2
        self._last_round = now
        if self._steady_since is None or slept or not self._bus.connected_seconds:
            self._steady_since = now
        steady_seconds = min(now - self._steady_since, self._bus.connected_seconds)
        return steady_seconds >= self._lease.total_seconds()

    async def _take_mark(self) -> Mark:
        # The time first: what is published between the two is waited for too.
        moment = await self._attempts.get_time()
        info = await _answer(self._bus.jetstream.stream_info(subjects.RESULTS_STREAM))
        return Mark(time=moment, last_sequence=info.state.last_seq, stream_created=info.created)

    async def _is_projected(self, mark: Mark) -> bool:
        jetstream = self._bus.jetstream
        stream = await _answer(jetstream.stream_info(subjects.RESULTS_STREAM))
        if stream.created != mark.stream_created:
            self._mark = None
            return False
        consumer = await _answer(jetstream.consumer_info(subjects.RESULTS_STREAM, subjects.PROJECTION_CONSUMER))
        floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
        all_acknowledged = consumer.num_pending == 0 and consumer.num_ack_pending == 0
        return floor >= mark.last_sequence or all_acknowledged


async def _answer(asking: Awaitable[Answer]) -> Answer:
    try:
        return await asking
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise BusUnavailable(f"the sweep cannot see JetStream: {error!r}") from error

"""The projection: takes results off the stream RESULTS and commits them to the record."""

import asyncio
import contextlib
import uuid
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from loguru import logger
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from sqlalchemy import text

from easel import crash, subjects
from easel.bus import Bus, BusUnavailable
from easel.crash import CrashPoint
from easel.logs import annotate
from easel.worker.v1.result_pb2 import Result
from gateway.announcements import Announcements
from gateway.errors import DatabaseUnavailable
from gateway.metrics import FAILED, LATE, SUCCEEDED, Metrics
from gateway.record.attempts import Attempt, Attempts, RetryPolicy
from gateway.record.database import Database
from gateway.record.documents import to_json
from gateway.record.generation import Change, State

BATCH = 64
#: How many results are committed at the same time; any order will do, since each is fenced by its attempt.
CONCURRENCY = 4
FETCH_SECONDS = 1.0
ACK_SECONDS = 2.0
PUT_BACK_SECONDS = 1.0

_STORE_UNREADABLE = text("INSERT INTO unreadable_messages (subject, data, error) VALUES (:subject, :data, :error)")


class Projection:
    """Commits results, each before it is acknowledged; all gateways share one consumer."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        attempts: Attempts,
        *,
        announcements: Announcements,
        policy: RetryPolicy,
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._database = database
        self._attempts = attempts
        self._announcements = announcements
        self._policy = policy
        self._metrics = metrics
        self._subscription: JetStreamContext.PullSubscription | None = None

    async def project(self) -> None:
        """Take the results that are there, or wait a second for one.

        Raises:
            BusUnavailable: JetStream is out of reach.
            DatabaseUnavailable: nothing was acknowledged of what was not committed; it comes again.
        """
        messages = await self._fetch()
        for index in range(0, len(messages), CONCURRENCY):
            try:
                await self._take_all(messages[index : index + CONCURRENCY])
            except BaseException:
                await self._put_back(messages[index:])
                raise

    async def _fetch(self) -> list[Msg]:
        jetstream = self._bus.jetstream
        try:
            if self._subscription is None:
                self._subscription = await jetstream.pull_subscribe_bind(
                    consumer=subjects.PROJECTION_CONSUMER, stream=subjects.RESULTS_STREAM
                )
            return await self._subscription.fetch(BATCH, timeout=FETCH_SECONDS)
        except TimeoutError:
            return []
        except (nats.errors.Error, nats.js.errors.Error) as error:
            await self._unbind()
            raise BusUnavailable(f"no results: {error!r}") from error

    async def _unbind(self) -> None:
        """End the subscription, which nats-py would renew at each reconnection for ever."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _take_all(self, messages: Sequence[Msg]) -> None:
        """Take results side by side; an error is raised when all have come to their ends."""
        outcomes = await asyncio.gather(*(self._take(message) for message in messages), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _take(self, message: Msg) -> None:
        try:
            await self._commit(_read(message))
        except (BusUnavailable, DatabaseUnavailable):
            raise
        except Exception as error:  # noqa: BLE001
            # What cannot be read or committed never will be: it is stored and taken out of the way, never a stall.
            self._metrics.unreadable_messages.inc()
            logger.error("an unreadable result was stored: {!r}", error, action="unreadable_result")
            parameters = {"subject": message.subject, "data": message.data, "error": str(error)}
            await self._database.execute(_STORE_UNREADABLE, parameters)
            with contextlib.suppress(nats.errors.Error):  # it comes again, and is stored again
                await self._bus.terminate(message, reason="unreadable")
        else:
            await self._acknowledge(message)

    async def _put_back(self, messages: Sequence[Msg]) -> None:
        for message in messages:
            with contextlib.suppress(nats.errors.Error):  # taken already; else it comes again by itself, only later
                await message.nak(delay=PUT_BACK_SECONDS)

    async def _commit(self, result: Result) -> None:
        annotate(generation_id=result.generation_id, attempt=result.attempt)
        attempt = Attempt(generation_id=result.generation_id, number=result.attempt)
        change: Change | None
        if result.HasField("success"):
            images = [to_json(stored) for stored in result.success.images]
            change = await self._attempts.succeed(
                attempt, images=images, phase_times=to_json(result.success.phase_times)
            )
        else:
            change = await self._attempts.fail(attempt, failure=to_json(result.failure), policy=self._policy)
        crash.reach(CrashPoint.AFTER_PROJECTION)
        self._metrics.results.labels(outcome=_outcome(change)).inc()
        if change is None:
            logger.info("a result came too late and changes nothing", action="late_result")
            return
        # Another attempt may be under way, or be hinted at: this result came first.
        await self._announcements.announce(change, stop_workers=change.state.is_final)

    async def _acknowledge(self, message: Msg) -> None:
        try:
            await message.ack_sync(timeout=ACK_SECONDS)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            # It comes again, and then changes nothing.
            raise BusUnavailable(f"a result was not acknowledged: {error!r}") from error


def _outcome(change: Change | None) -> str:
    if change is None:
        return LATE
    return SUCCEEDED if change.state == State.SUCCEEDED else FAILED


def _read(message: Msg) -> Result:
    result = Result.FromString(message.data)
    uuid.UUID(result.generation_id)
    if result.WhichOneof("outcome") is None:
        raise ValueError("a result without an outcome")
    if result.HasField("failure"):
        # PostgreSQL has no NUL in a text, and what a library complains of may be one.
        result.failure.message = result.failure.message.replace("\0", "")
    return result

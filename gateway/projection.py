"""The projection: takes results off the stream RESULTS and commits them to the record."""

import asyncio
import contextlib
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from loguru import logger
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from opentelemetry.trace import Span, SpanKind
from sqlalchemy import text

from easel import subjects, tracing
from easel.bus import Bus, BusUnavailable, trace_of
from easel.logs import annotate
from easel.worker.v1.result_pb2 import Result
from gateway.bucket import StorageUnavailable
from gateway.errors import DatabaseUnavailable
from gateway.metrics import FAILED, LATE, SUCCEEDED, Metrics
from gateway.record.database import Database
from gateway.record.generation import Change, State
from gateway.results import Results, read_result

BATCH = 64
#: How many results are committed at the same time; any order will do, since each is fenced by its attempt.
CONCURRENCY = 4
FETCH_SECONDS = 1.0
ACK_SECONDS = 2.0
PUT_BACK_SECONDS = 1.0

_STORE_UNREADABLE = text("INSERT INTO unreadable_messages (subject, data, error) VALUES (:subject, :data, :error)")


class Projection:
    """Commits results, each before it is acknowledged; all gateways share one consumer."""

    def __init__(self, bus: Bus, database: Database, results: Results, *, metrics: Metrics) -> None:
        self._bus = bus
        self._database = database
        self._results = results
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
            result = read_result(message.data)
            with tracing.span(
                "commit result",
                parent=trace_of(message),
                kind=SpanKind.CONSUMER,
                generation_id=result.generation_id,
                attempt=result.attempt,
            ) as span:
                await self._commit(result, span)
        except (BusUnavailable, DatabaseUnavailable):
            raise
        except StorageUnavailable as error:
            # Pictures of which the record has forgotten who stored them, and nobody can look: they alone have to wait.
            logger.warning("a result waits: {}", error, action="result_waits")
            await self._put_back([message])
        except Exception as error:  # noqa: BLE001
            # What cannot be read or committed never will be: it is stored and taken out of the way, never a stall.
            self._metrics.unreadable_messages.inc()
            # What the error says may quote the message, which the table keeps.
            logger.error(
                "an unreadable result on {} was stored: {}",
                message.subject, type(error).__name__, action="unreadable_result",
            )  # fmt: skip
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

    async def _commit(self, result: Result, span: Span) -> None:
        annotate(generation_id=result.generation_id, attempt=result.attempt)
        change = await self._results.commit(result)
        self._metrics.results.labels(outcome=_outcome(change)).inc()
        span.set_attribute("easel.outcome", _outcome(change))
        if change is not None:
            # From here on watchers see it.
            span.add_event("announced", {"easel.state": change.state, "easel.revision": change.revision})
        if change is None:
            logger.info("a result came too late and changes nothing", action="late_result")

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

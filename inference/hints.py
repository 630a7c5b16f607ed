"""Pulls hints that there is something to draw; what to make of one is for `claims` to say."""

import asyncio
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from loguru import logger
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from easel import subjects
from easel.bus import Bus, BusUnavailable, trace_of
from easel.worker.v1.task_pb2 import TaskHint

#: A pull ends after so long, since it must never be cancelled: the server would send the next hint into the void.
PULL_SECONDS = 0.5
#: After so many empty pulls in a row the consumer is looked for: a deleted one shows as an empty pull.
PULLS_BEFORE_PROBE = 6
PROBE_WAIT_SECONDS = 0.1
MAX_PROBE_WAIT_SECONDS = 1.0
ACK_ATTEMPTS = 3
ACK_TIMEOUT_SECONDS = 1.0

_ERRORS = (BusUnavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError)


class Hint:
    """One hint, and the one place where it is acknowledged or given back."""

    def __init__(self, message: Msg, *, generation_id: str) -> None:
        self._message = message
        self.generation_id = generation_id
        #: The span in which it was published; none when empty.
        self.trace_parent = trace_of(message)

    async def settle(self) -> None:
        """Take it off the queue for good.

        A hint that cannot be acknowledged comes again and is answered HELD or GONE: that costs a request.
        """
        for _ in range(ACK_ATTEMPTS):
            try:
                await self._message.ack_sync(timeout=ACK_TIMEOUT_SECONDS)
            except _ERRORS as error:
                logger.debug("could not acknowledge a hint: {}", repr(error), action="hint_ack")
            else:
                return

    async def put_back(self, *, delay_seconds: float = 0.0) -> None:
        """Have it delivered again, to any worker; if this gets lost, that happens by itself after the ack wait."""
        try:
            await self._message.nak(delay=delay_seconds or None)
        except _ERRORS as error:
            logger.debug("could not give a hint back: {}", repr(error), action="hint_nak")


class Hints:
    """The queue of hints of one model, shared by its workers. It may vanish and come back at any time."""

    def __init__(self, bus: Bus, *, model: str) -> None:
        self._bus = bus
        self._consumer = subjects.task_consumer(model)
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._empty_pulls = 0
        self._probe_wait_seconds = PROBE_WAIT_SECONDS

    @property
    def is_bound(self) -> bool:
        """Whether it has found its queue, and that was not seen to vanish since."""
        return self._subscription is not None

    async def pull(self, count: int) -> Sequence[Hint]:
        """Wait a short while for hints; at most so many, often none. Never cancel this."""
        if self._subscription is None and not await self._bind():
            return ()
        assert self._subscription is not None  # noqa: S101  # for the type checker
        try:
            messages = await self._subscription.fetch(count, timeout=PULL_SECONDS)
        except TimeoutError:  # nats-py's own is one of these
            await self._note_empty_pull()
            return ()
        except _ERRORS as error:
            # Deleted, its stream too, or the connection is down. What had been delivered comes again.
            logger.debug("cannot pull hints: {}", repr(error), action="hint_pull")
            await self._unbind()
            return ()
        self._empty_pulls = 0
        return [hint for message in messages if (hint := await self._read(message))]

    async def _read(self, message: Msg) -> Hint | None:
        try:
            return Hint(message, generation_id=TaskHint.FromString(message.data).generation_id)
        except DecodeError:
            logger.warning("unreadable hint on {}", message.subject, action="hint_unreadable")
            await self._remove(message)
            return None

    async def _remove(self, message: Msg) -> None:
        try:
            await self._bus.terminate(message, reason="unreadable")
        except _ERRORS as error:
            logger.debug("could not remove a hint: {}", repr(error), action="hint_term")

    async def _note_empty_pull(self) -> None:
        self._empty_pulls += 1
        if self._empty_pulls >= PULLS_BEFORE_PROBE:
            self._empty_pulls = 0
            if not await self._exists():
                await self._unbind()

    async def _bind(self) -> bool:
        """Subscribe if the gateway has made the consumer, else wait a moment."""
        if not await self._exists():
            if self._probe_wait_seconds == PROBE_WAIT_SECONDS:
                logger.info("waiting for the queue {}", self._consumer, action="hint_queue_missing")
            await asyncio.sleep(self._probe_wait_seconds)
            self._probe_wait_seconds = min(2 * self._probe_wait_seconds, MAX_PROBE_WAIT_SECONDS)
            return False
        try:
            self._subscription = await self._bus.jetstream.pull_subscribe_bind(
                self._consumer, stream=subjects.TASKS_STREAM
            )
        except _ERRORS as error:
            logger.debug("cannot bind to the queue: {}", repr(error), action="hint_bind")
            return False
        self._probe_wait_seconds = PROBE_WAIT_SECONDS
        logger.info("pulling from the queue {}", self._consumer, action="hint_queue_found")
        return True

    async def _unbind(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            await subscription.unsubscribe()
        except _ERRORS as error:
            logger.debug("while unbinding: {}", repr(error), action="hint_unbind")

    async def _exists(self) -> bool:
        try:
            await self._bus.jetstream.consumer_info(subjects.TASKS_STREAM, self._consumer)
        except _ERRORS:
            return False
        return True

"""Turns hints into attempts: pulls while there is room, asks a gateway for each, and settles the hint."""

import asyncio
import random
import uuid
from collections.abc import Callable

from loguru import logger
from opentelemetry.trace import Span, SpanKind

from easel import crash, tracing
from easel.bus import BusUnavailable
from easel.crash import CrashPoint
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimResponse
from easel.worker.v1.task_pb2 import Task
from inference.attempts import Attempts
from inference.gateways import Gateways
from inference.hints import Hint, Hints
from inference.metrics import Metrics, name_of

#: After a claim without an answer, at most, until it is asked for again.
ASK_AGAIN_SECONDS = 1.0
#: A hint that is put back comes again after so long.
HINT_AGAIN_SECONDS = 1.0

#: The answers after which nobody needs the hint. All others keep it: NOT_YET, and what newer gateways may say.
SETTLING = frozenset({ClaimAnswer.CLAIM_ANSWER_GRANTED, ClaimAnswer.CLAIM_ANSWER_GONE, ClaimAnswer.CLAIM_ANSWER_HELD})


class Claims:
    """Claims one generation after another for a worker.

    A claim that was not answered may have been granted all the same. So it keeps its id and its slot, and is asked for
    until the answer is there: forgotten, it would be an attempt that nobody draws. Its hint goes back at once, since
    nothing depends on it any more.
    """

    def __init__(
        self,
        hints: Hints,
        gateways: Gateways,
        attempts: Attempts,
        *,
        on_granted: Callable[[Task], None],
        metrics: Metrics,
    ) -> None:
        self._hints = hints
        self._gateways = gateways
        self._attempts = attempts
        self._on_granted = on_granted
        self._metrics = metrics
        #: The generations asked for now, each with a slot reserved.
        self._asked: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Claim until told to stop; returns when nothing pulled is left unsettled, and no claim unanswered.

        That takes the time of two more requests at most. What is still granted by then is held like anything else.
        """
        async with asyncio.TaskGroup() as group:
            while free_slots := await self._attempts.wait_for_room(stop):
                for hint in await self._hints.pull(free_slots):
                    # There may be no room any more: one that is to be alone has come in the meantime.
                    if stop.is_set() or not self._attempts.free_slots:
                        group.create_task(hint.put_back())
                    elif hint.generation_id in self._asked:
                        group.create_task(hint.put_back(delay_seconds=HINT_AGAIN_SECONDS))
                    else:
                        self._open(hint.generation_id)
                        group.create_task(self._claim(hint, stop))

    async def _claim(self, hint: Hint, stop: asyncio.Event) -> None:
        # An attempt that is granted begins in here, and so belongs to the same trace.
        with tracing.span(
            "claim", parent=hint.trace_parent, kind=SpanKind.CONSUMER, generation_id=hint.generation_id
        ) as span:
            await self._ask_and_settle(hint, stop, span)

    async def _ask_and_settle(self, hint: Hint, stop: asyncio.Event, span: Span) -> None:
        generation_id, claim_id = hint.generation_id, str(uuid.uuid4())
        response = await self._ask(generation_id, claim_id=claim_id)
        if response is None:
            await hint.put_back(delay_seconds=HINT_AGAIN_SECONDS)
            self._close(generation_id, await self._insist(generation_id, claim_id=claim_id, stop=stop))
            return
        span.set_attribute("easel.answer", name_of(response.answer))
        # Before the hint is acknowledged, so that none is that nobody has taken.
        self._close(generation_id, response)
        if response.answer == ClaimAnswer.CLAIM_ANSWER_GRANTED:
            crash.reach(CrashPoint.AFTER_GRANT)
        if response.answer in SETTLING:
            await hint.settle()
        else:
            await hint.put_back(delay_seconds=_delay_seconds(response))

    async def _insist(self, generation_id: str, *, claim_id: str, stop: asyncio.Event) -> ClaimResponse | None:
        """Ask until there is an answer; once told to stop, just one more time."""
        while True:
            stopping = await _pause(stop)
            response = await self._ask(generation_id, claim_id=claim_id)
            if response is not None or stopping:
                return response

    async def _ask(self, generation_id: str, *, claim_id: str) -> ClaimResponse | None:
        """Ask once; None leaves it open whether the claim was granted."""
        try:
            response = await self._gateways.claim(generation_id, claim_id=claim_id)
        except BusUnavailable as error:
            logger.debug("no answer to a claim: {}", error, action="claim", generation_id=generation_id)
            self._metrics.count_claim(None)
            return None
        self._metrics.count_claim(response.answer)
        logger.debug("claimed: {}", name_of(response.answer), action="claim", generation_id=generation_id)
        return response

    def _open(self, generation_id: str) -> None:
        self._asked.add(generation_id)
        self._attempts.reserve()

    def _close(self, generation_id: str, response: ClaimResponse | None) -> None:
        if response is not None and response.answer == ClaimAnswer.CLAIM_ANSWER_GRANTED:
            self._on_granted(response.task)
        self._asked.remove(generation_id)
        self._attempts.unreserve()


def _delay_seconds(response: ClaimResponse) -> float:
    if not response.HasField("retry_after"):
        return HINT_AGAIN_SECONDS
    return response.retry_after.ToTimedelta().total_seconds()


async def _pause(stop: asyncio.Event) -> bool:
    """Wait before asking again, at most until told to stop; tell whether that is so."""
    try:
        async with asyncio.timeout(ASK_AGAIN_SECONDS * random.uniform(0.5, 1)):  # noqa: S311  # jitter
            await stop.wait()
    except TimeoutError:
        return False
    return True

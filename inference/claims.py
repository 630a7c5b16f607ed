"""Turns hints into attempts: pulls while there is room, asks a gateway for each, and settles the hint."""

import asyncio
import uuid
from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration
from loguru import logger

from easel.bus import BusUnavailable
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimResponse
from easel.worker.v1.task_pb2 import Task
from inference.attempts import Attempts
from inference.gateways import Gateways
from inference.hints import Hint, Hints

#: All tries together stay within the 10 s after which the queue gives the hint to another worker.
CLAIM_TRIES = 3
RETRY_AFTER_SECONDS = 1.0
#: How many claims without an answer are remembered.
MAX_UNANSWERED = 1_000


class Claims:
    """Claims one generation after another for a worker."""

    def __init__(
        self, hints: Hints, gateways: Gateways, attempts: Attempts, *, on_granted: Callable[[Task], None]
    ) -> None:
        self._hints = hints
        self._gateways = gateways
        self._attempts = attempts
        self._on_granted = on_granted
        # A claim whose answer was lost may have been granted: asking again under the same id brings the answer.
        self._unanswered: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Claim until told to stop; returns when nothing pulled is left unsettled."""
        while not stop.is_set():
            free_slots = await self._attempts.wait_for_room(stop)
            if not free_slots:
                continue
            hints = await self._hints.pull(free_slots)
            if stop.is_set():
                await asyncio.gather(*(hint.put_back() for hint in hints))
                return
            await asyncio.gather(*(self._claim(hint) for hint in hints))

    async def _claim(self, hint: Hint) -> None:
        response = await self._ask(hint.generation_id)
        if response is None or response.answer == ClaimAnswer.CLAIM_ANSWER_NOT_YET:
            await hint.put_back(delay_seconds=_delay_seconds(response))
            return
        if response.answer == ClaimAnswer.CLAIM_ANSWER_GRANTED:
            self._on_granted(response.task)
        # Only now, so that nothing is acknowledged that nobody has taken.
        await hint.settle()

    async def _ask(self, generation_id: str) -> ClaimResponse | None:
        claim_id = self._unanswered.get(generation_id) or str(uuid.uuid4())
        for _ in range(CLAIM_TRIES):
            try:
                response = await self._gateways.claim(generation_id, claim_id=claim_id)
            except BusUnavailable as error:
                logger.debug("no answer to a claim: {}", error, action="claim", generation_id=generation_id)
            else:
                self._unanswered.pop(generation_id, None)
                answer = ClaimAnswer.Name(response.answer)
                logger.debug("claimed: {}", answer, action="claim", generation_id=generation_id)
                return response
        self._remember(generation_id, claim_id)
        return None

    def _remember(self, generation_id: str, claim_id: str) -> None:
        self._unanswered[generation_id] = claim_id
        if len(self._unanswered) > MAX_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]


def _delay_seconds(response: ClaimResponse | None) -> float:
    if response is None or not response.HasField("retry_after"):
        return RETRY_AFTER_SECONDS
    retry_after: Duration = response.retry_after
    return max(retry_after.ToTimedelta().total_seconds(), 0.0)

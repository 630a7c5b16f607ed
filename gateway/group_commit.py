"""Group commit: requests that come while others are being committed share the next statement and its commit.

A statement with twenty rows costs hardly more than one with a single row, here and in the database, and waits for the
disk as long. Under load that triples what one gateway accepts; a request that comes alone is committed at once.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass

from gateway.errors import DatabaseUnavailable
from gateway.record.generation import Generation
from gateway.record.generations import Generations, NewGeneration

#: How many rows one statement stores at most.
MAX_ROWS = 100

#: The wait after a commit that a crowd has shared, so that more share the next one: time that the others get.
GATHER_SECONDS = 0.008
CROWD = 4


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A caller, and where it waits for its answer."""

    request: NewGeneration
    answer: "asyncio.Future[Generation | None]"


class GroupCommit:
    """Stores requests, each for itself and with as few commits as possible.

    Args:
        generations: Where they are stored.
        timeout_seconds: How long a request may take, the commits that it waits for included.
    """

    def __init__(self, generations: Generations, *, timeout_seconds: float) -> None:
        self._generations = generations
        self._timeout_seconds = timeout_seconds
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None

    async def create_generation(self, request: NewGeneration) -> Generation | None:
        """Accept a request; return its generation, durable, or None where another has its request_id already.

        If the caller is cancelled, the request may be stored all the same.

        Raises:
            DatabaseUnavailable: whether it was stored is not known.
        """
        waiting = _Waiting(request=request, answer=asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._committing is None:
            # In no caller's context, since log lines are then about one of them.
            self._committing = asyncio.create_task(self._commit_all(), context=Context())
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await waiting.answer
        except TimeoutError:
            # While the database hangs each commit takes all of its time, and a queue of them would for ever.
            raise DatabaseUnavailable from None

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_ROWS], self._waiting[MAX_ROWS:]
                await self._commit([one for one in group if not one.answer.done()])
                if len(group) >= CROWD:
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._committing = None

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            created = await self._generations.create_generations([one.request for one in group])
        except DatabaseUnavailable:
            for one in group:
                _fail(one, DatabaseUnavailable())
        except Exception as error:  # noqa: BLE001
            await self._commit_each(group, error)
        else:
            for one, generation in zip(group, created, strict=True):
                if not one.answer.done():
                    one.answer.set_result(generation)

    async def _commit_each(self, group: Sequence[_Waiting], error: Exception) -> None:
        """Find out who it was that the record refused: the others must not fail with it."""
        if len(group) == 1:
            _fail(group[0], error)
            return
        for one in group:
            await self._commit([one])


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)

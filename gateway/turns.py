"""Turns: so many at a time, and nobody waits behind all that somebody else wants."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import TooManyCalls


class Turns:
    """Lets so many in at a time, fewer of each owner, and has the others wait; owners take turns.

    Who has a hundred at the door waits for itself: the next one in is of another owner, if one of those waits.

    Args:
        places: How many are in at a time.
        places_per_owner: How many of one owner; with fewer than `places` there is room for a second owner at once.
        timeout_seconds: How long one waits at most.
    """

    def __init__(self, *, places: int, places_per_owner: int, timeout_seconds: float) -> None:
        self._places = places
        self._places_per_owner = places_per_owner
        self._timeout_seconds = timeout_seconds
        self._inside: Counter[str] = Counter()
        #: In the order in which owners take turns.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def take(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Raises:
            TooManyCalls: it did not come in time.
        """
        await self._enter(owner)
        try:
            yield
        finally:
            self._leave(owner)

    async def _enter(self, owner: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._admit()
        if turn.done():
            return
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await turn
        except BaseException as error:
            # Who goes away in the moment in which it is let in leaves its place to the next.
            if not turn.cancelled():
                self._leave(owner)
            if isinstance(error, TimeoutError):
                raise TooManyCalls from None
            raise

    def _leave(self, owner: str) -> None:
        self._inside[owner] -= 1
        if not self._inside[owner]:
            del self._inside[owner]
        self._admit()

    def _admit(self) -> None:
        while (owner := self._next_owner()) is not None:
            queue = self._waiting.pop(owner)
            turn = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # behind the others
            if not turn.done():
                turn.set_result(None)
                self._inside[owner] += 1

    def _next_owner(self) -> str | None:
        if self._inside.total() >= self._places:
            return None
        return next((owner for owner in self._waiting if self._inside[owner] < self._places_per_owner), None)

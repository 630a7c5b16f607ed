"""Waiting while the service is out of reach, and giving up in the end."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeAlias

from easel.client.errors import DeadlineExceeded, EaselError

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

#: Is told of each break that is being mended, and with None that it is mended; for those who want to show it.
OnOutage: TypeAlias = Callable[[EaselError | None], None]


class Deadline:
    """A point in time after which a call shall not go on; perhaps none."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left_seconds(self) -> float | None:
        """How long it is until then, never below 0; None without an end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Outage:
    """Spaces the tries to reach something, longer and longer and jittered, and loses patience."""

    def __init__(self, *, patience_seconds: float, deadline: Deadline, on_outage: OnOutage | None = None) -> None:
        self._patience_seconds = patience_seconds
        self._deadline = deadline
        self._on_outage = on_outage
        self._began: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def over(self) -> None:
        """Take note that the service answers again: patience is whole again."""
        if self._began is not None and self._on_outage:
            self._on_outage(None)
        self._began = None

    def recovered(self) -> None:
        """Take note that things really move on: the next pause is a short one again."""
        self.over()
        self._pause_seconds = FIRST_PAUSE_SECONDS

    async def pause(self, error: EaselError) -> float:
        """Wait before the next try, as long as `error` asks for at least.

        Raises:
            EaselError: `error` itself, when patience has run out.
            DeadlineExceeded: the deadline of the call has passed, or passes during the wait.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        patience_left = self._began + self._patience_seconds - now
        if patience_left <= 0:
            raise error
        if self._on_outage:
            self._on_outage(error)
        seconds = min(self._next_pause(error), patience_left)
        left = self._deadline.left_seconds
        if left is not None and left <= seconds:
            await asyncio.sleep(left)
            raise DeadlineExceeded(f"the deadline passed while the service was out of reach: {error}") from error
        await asyncio.sleep(seconds)
        return seconds

    def _next_pause(self, error: EaselError) -> float:
        seconds = max(self._pause_seconds, error.retry_after_seconds or 0.0)
        self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        return seconds * random.uniform(1.0, 1.5)  # noqa: S311  # spreads a herd, guards no secret

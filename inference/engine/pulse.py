"""Tells a busy device from a wedged one."""

import time
from collections.abc import Callable


class Pulse:
    """The engine's thread says how long its next doing may take; anyone may ask whether it kept its word.

    Attribute assignments are atomic, so that no lock is needed between the two threads.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: float | None = None

    def expect(self, *, within_seconds: float) -> None:
        """Promise another sign of life within so many seconds."""
        self._due = self._clock() + within_seconds

    def rest(self) -> None:
        """Promise nothing: there is no work."""
        self._due = None

    @property
    def steady(self) -> bool:
        """Whether the latest promise was kept or may still be."""
        due = self._due
        return due is None or self._clock() < due

"""Tells a busy device from a wedged one."""

import time
from collections.abc import Callable

#: A prompt or a picture that takes longer than this will not come at all.
ENCODING_LIMIT_SECONDS = 300.0
DECODING_LIMIT_SECONDS = 600.0
#: The first step may compile kernels.
FIRST_STEP_LIMIT_SECONDS = 600.0
#: A later step may take so many times as long as is known of such steps, and never less than the floor.
STEP_LIMIT_FACTOR = 5.0
STEP_LIMIT_FLOOR_SECONDS = 30.0


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

    def expect_encoding(self) -> None:
        """Promise another sign of life within what a prompt may take."""
        self.expect(within_seconds=ENCODING_LIMIT_SECONDS)

    def expect_decoding(self) -> None:
        """Promise another sign of life within what a picture may take, once its steps are done."""
        self.expect(within_seconds=DECODING_LIMIT_SECONDS)

    def expect_step(self, *, known_seconds: float) -> None:
        """Promise another sign of life within what a step may take; 0 if nothing is known of such steps."""
        limit = max(STEP_LIMIT_FLOOR_SECONDS, STEP_LIMIT_FACTOR * known_seconds)
        self.expect(within_seconds=limit if known_seconds else FIRST_STEP_LIMIT_SECONDS)

    def rest(self) -> None:
        """Promise nothing: there is no work."""
        self._due = None

    @property
    def steady(self) -> bool:
        """Whether the latest promise was kept or may still be."""
        due = self._due
        return due is None or self._clock() < due

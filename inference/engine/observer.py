"""What an engine tells of its doings, on its own thread, to whoever measures them."""

from enum import Enum
from typing import Protocol


class Work(Enum):
    """What a device is busy with."""

    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"


class Observer(Protocol):
    """Takes note of what an engine does."""

    def batch(self, *, rows: int, paying_rows: int) -> None:
        """Take note of an evaluation with so many rows, where so many would pay."""
        ...

    def step(self, *, seconds: float) -> None:
        """Take note of how long an evaluation took, which is a step of all that are in it."""
        ...

    def work(self, work: Work, *, seconds: float) -> None:
        """Take note of how long the device was busy."""
        ...

    def lookup(self, *, hit: bool) -> None:
        """Take note of whether what a prompt became was known already."""
        ...

    def out_of_memory(self) -> None:
        """Take note of memory that did not suffice."""
        ...

    def memory(self, *, used_bytes: int, total_bytes: int) -> None:
        """Take note of how much of the device's memory is taken, by whomever."""
        ...


class Unobserved:
    """Lets it all pass."""

    def batch(self, *, rows: int, paying_rows: int) -> None:
        """Let it pass."""

    def step(self, *, seconds: float) -> None:
        """Let it pass."""

    def work(self, work: Work, *, seconds: float) -> None:
        """Let it pass."""

    def lookup(self, *, hit: bool) -> None:
        """Let it pass."""

    def out_of_memory(self) -> None:
        """Let it pass."""

    def memory(self, *, used_bytes: int, total_bytes: int) -> None:
        """Let it pass."""


UNOBSERVED: Observer = Unobserved()

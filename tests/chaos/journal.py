"""What each client was told, one fact a line, in the order in which it was told."""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar


class Fate(StrEnum):
    """What a request is to end as, if nobody cancels it."""

    #: SUCCEEDED, whatever breaks meanwhile.
    HEALTHY = "healthy"
    #: FAILED for this reason, since the picture cannot be drawn.
    MODEL_ERROR = "model_error"
    OUT_OF_MEMORY = "out_of_memory"
    #: SUCCEEDED or EXPIRED: its timeout is shorter than an outage.
    HURRIED = "hurried"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """Something that happened, on the clock of this process."""

    #: Seconds since the beginning.
    at: float = 0.0
    #: Who says so: somebody who does one thing after the other.
    by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent(Fact):
    """A client is about to ask for a generation, for the first time."""

    request_id: str
    fate: Fate
    image_count: int
    prompt: str
    seed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted(Fact):
    """A client was told that its request is accepted."""

    request_id: str
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen(Fact):
    """A client was shown a generation after a change of state, or as it stands."""

    id: str
    revision: int
    state: str
    attempt: int
    #: The index, SHA-256 and size of each picture.
    images: list[tuple[int, str, int]]
    failure_reason: str
    gateway: str
    #: When it asked; None within a stream, whose messages come unasked.
    asked: float | None
    #: The stream in which it came; None in the answer to a call.
    stream: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchStarted(Fact):
    """A client opened a stream; `revision` is that of its resume token, 0 without."""

    id: str
    stream: int
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchEnded(Fact):
    """A stream ended: with OK, or broken, or left by a client that comes back, or left for good."""

    OK = "OK"
    LEFT = "LEFT"

    id: str
    stream: int
    #: OK, LEFT, or the status that broke it.
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelAsked(Fact):
    """A client is about to cancel a generation."""

    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelAnswered(Fact):
    """A client was told how the generation stands after its cancel."""

    id: str
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Watching(Fact):
    """A client is going to watch a generation to its end, over as many streams as it takes."""

    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused(Fact):
    """A client got an answer that no client should get, such as INTERNAL, or none at all for far too long."""

    subject: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Struck(Fact):
    """The nemesis did something, and the component came back."""

    number: int
    component: str
    action: str
    outage_seconds: float
    #: From the moment it was let go until it answered for itself.
    serving_seconds: float
    #: From the moment it was let go until a request that was sent then had its picture.
    recovery_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fell(Fact):
    """A process ended that nobody had touched."""

    component: str
    problem: str


Some = TypeVar("Some", bound=Fact)

KINDS: dict[str, type[Fact]] = {
    kind.__name__: kind
    for kind in (
        Sent, Accepted, Seen, WatchStarted, WatchEnded, CancelAsked, CancelAnswered, Watching, Refused, Struck, Fell,
    )
}  # fmt: skip


class Journal:
    """A file that facts are appended to."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", encoding="utf-8")
        self._began = time.monotonic()
        self._streams = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def new_stream(self) -> int:
        """Number a stream."""
        self._streams += 1
        return self._streams

    def write(self, fact: Fact, *, by: str) -> None:
        """Append a fact, as of now."""
        written = dataclasses.replace(fact, at=round(self.now, 6), by=by)
        self._stream.write(json.dumps({"fact": type(fact).__name__} | dataclasses.asdict(written)) + "\n")
        self._stream.flush()


def read(file: Path) -> Sequence[Fact]:
    """Read a journal; a last line that was cut off is left out."""
    facts = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            written = json.loads(line)
        except ValueError:
            continue
        facts.append(_fact(written))
    return facts


def _fact(written: dict[str, Any]) -> Fact:
    fact = KINDS[written.pop("fact")](**written)
    if isinstance(fact, Seen):
        return dataclasses.replace(fact, images=[(index, sha256, size) for index, sha256, size in fact.images])
    return fact

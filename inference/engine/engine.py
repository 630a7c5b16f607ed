"""What an engine is: it takes requests, and tells what becomes of them through events."""

import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: A picture: height x width x 3, red, green, blue.
Pixels: TypeAlias = NDArray[np.uint8]


class Phase(enum.Enum):
    """What the engine does for a request, in this order; what it cannot tell apart counts as denoising."""

    #: Waiting for the device.
    WAITING = "waiting"
    #: The prompt becomes an embedding.
    ENCODING = "encoding"
    #: The steps.
    DENOISING = "denoising"
    #: Latents become pixels.
    DECODING = "decoding"


class FailureKind(enum.Enum):
    """Why a request could not be drawn."""

    #: The model raised an error on this request.
    MODEL_ERROR = "model error"
    #: The device has too little memory for this request.
    OUT_OF_MEMORY = "out of memory"
    #: The picture came out as not-a-number.
    INVALID_OUTPUT = "invalid output"


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawRequest:
    """What to draw, with nothing left open."""

    prompt: str
    negative_prompt: str
    #: In pixels.
    width: int
    #: In pixels.
    height: int
    steps: int
    #: 1 or less is off.
    guidance_scale: float
    #: Picture i is drawn with seed + i.
    seed: int
    image_count: int
    #: One of the adapter's `Traits.schedulers`.
    scheduler: str
    #: Show each picture after every so many of its steps; 0 shows none.
    preview_every_steps: int = 0
    #: Draw it with no other request in its batch.
    alone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseStarted:
    """The request entered a phase."""

    phase: Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Stepped:
    """One more step is done."""

    #: Steps done, over all pictures of the request.
    step: int
    #: Steps in all, over all pictures of the request.
    steps: int
    #: How long this step took.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Previewed:
    """A picture can be seen before it is done, small and rough. It is never a result, and has a type of its own."""

    #: Which of the pictures it shows, from 0.
    image_index: int
    #: Steps done by then, over all pictures of the request.
    step: int
    pixels: Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The pictures are drawn. The last event."""

    pictures: tuple[Pixels, ...]
    #: How long each phase took.
    phase_seconds: Mapping[Phase, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """There will be no pictures. The last event."""

    kind: FailureKind
    #: One sentence for people.
    message: str
    #: Where in the model it came from, without a prompt, for whoever logs it and knows of which request it was.
    error: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """The request was cancelled, and nothing more is drawn for it. The last event."""


Event: TypeAlias = PhaseStarted | Stepped | Previewed | Finished | Failed | Stopped
FINAL_EVENTS = (Finished, Failed, Stopped)


class Drawing(Protocol):
    """A request that an engine has taken: iterate over it for its events, the last of which is final."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Give the events in order, ending after the final one; for one reader, once."""
        ...

    def cancel(self) -> None:
        """Stop after the step in hand. The drawing still ends with a final event, seldom another than `Stopped`."""
        ...


class Engine(Protocol):
    """Draws on one device. Its methods are called on the event loop; the device has a thread of its own."""

    def draw(self, request: DrawRequest) -> Drawing:
        """Take a request; it waits inside until the device is free for it."""
        ...

    @property
    def slots(self) -> int:
        """How many requests it can draw at once, those in hand among them; changes with what comes."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the device answers: idle, or at work and within the time that its present doings may take."""
        ...

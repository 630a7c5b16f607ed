"""What an engine needs of a model: the device work alone, synchronous, on the engine's thread."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from inference.engine.engine import DrawRequest, Pixels

#: What a prompt became; only its adapter looks inside.
Conditioning: TypeAlias = Any
#: What the model said of one picture, guidance and all; only its adapter looks inside.
Prediction: TypeAlias = Any
#: Called after each evaluation of the model with the evaluations done and those there are; may raise to stop.
OnEvaluation: TypeAlias = Callable[[int, int], None]


class OutOfMemory(Exception):
    """The device has too little memory for this request; smaller ones may still be drawn."""


#: What stands for too little memory: of the device, or of the machine.
MEMORY_ERRORS = (OutOfMemory, MemoryError)


class InvalidOutput(Exception):
    """The picture came out as not-a-number."""


class DeviceLost(Exception):
    """The device does not work any more, for any request, until the process starts anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What a model can do and what suits it."""

    #: Such as `StableDiffusionPipeline`.
    family: str
    #: In pixels.
    default_width: int
    #: In pixels.
    default_height: int
    #: Widths and heights are multiples of it, in pixels.
    size_multiple: int
    default_steps: int
    max_steps: int
    default_guidance_scale: float
    #: The names of the schedulers it takes.
    schedulers: tuple[str, ...]
    #: The one it was saved with.
    default_scheduler: str
    #: Whether its pictures can be seen before they are done.
    previews: bool = False

    def default_request(self) -> DrawRequest:
        """Make a request for what most will ask for."""
        return DrawRequest(
            prompt="warm-up",
            negative_prompt="",
            width=self.default_width,
            height=self.default_height,
            steps=self.default_steps,
            guidance_scale=self.default_guidance_scale,
            seed=0,
            image_count=1,
            scheduler=self.default_scheduler,
        )


class SampleState(Protocol):
    """A picture in the midst of its steps: latents, a scheduler and a generator of its own."""

    @property
    def key(self) -> Hashable:
        """What it shares with those whose rows fit into one batch with its own, such as the shape of latents."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it takes in a batch: 2 with guidance, else 1."""
        ...

    @property
    def evaluations(self) -> int:
        """How often the model is evaluated for it, from the first step to the last."""
        ...


class Adapter(Protocol):
    """One model on one device.

    Each method of an adapter may raise the errors above; any other exception counts as the model's error on those who
    took part.
    """

    @property
    def traits(self) -> Traits:
        """What the model can do; known once it is warmed up."""
        ...

    def warm_up(self) -> None:
        """Draw a small picture, so that the first request pays for no lazy start, and a broken model shows now."""
        ...


class StepAdapter(Adapter, Protocol):
    """A model whose pipeline is cut at its steps, so that rows of different requests are evaluated together.

    The states it takes are those it made.
    """

    def tune(self) -> None:
        """Begin to make it faster in the background, where that was asked for; called once it is warm and measured."""
        ...

    def encode(self, request: DrawRequest) -> Conditioning:
        """Turn the prompts into what conditions the steps."""
        ...

    def begin(self, request: DrawRequest, conditioning: Conditioning, *, seed: int) -> SampleState:
        """Make the noise that one picture starts from, and its schedule."""
        ...

    def evaluate(self, states: Sequence[Any]) -> Sequence[Prediction]:
        """Evaluate the model once for pictures of one key, in one batch; takes none of them further."""
        ...

    def advance(self, state: Any, prediction: Prediction) -> None:
        """Take one picture a step on, by what the model said."""
        ...

    def wait(self) -> None:
        """Wait until the device has done what it was told: some only note it down, and do it later."""
        ...

    def preview(self, state: Any) -> Pixels | None:
        """Show roughly what will become of a picture, at next to no cost; None where the model has no previews."""
        ...

    def decode(self, states: Sequence[Any]) -> Sequence[Pixels]:
        """Turn pictures of one key, all steps done, into pixels."""
        ...


@runtime_checkable
class WholeAdapter(Adapter, Protocol):
    """A model whose pipeline is called as a whole, for one picture at a time."""

    def draw(self, request: DrawRequest, *, seed: int, on_evaluation: OnEvaluation) -> Pixels:
        """Draw one picture."""
        ...

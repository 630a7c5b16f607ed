"""What an engine needs of a model: the device work alone, synchronous, on the engine's thread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from inference.engine.engine import DrawRequest, Pixels

#: What a prompt became; only its adapter looks inside.
Conditioning: TypeAlias = Any
#: A picture before decoding; only its adapter looks inside.
Latents: TypeAlias = Any
#: A picture in the midst of its steps; only its adapter looks inside.
Sketch: TypeAlias = Any
#: Called after each evaluation of the model with the evaluations done, those there are, and how the picture stands; may
#: raise to stop.
OnEvaluation: TypeAlias = Callable[[int, int, Sketch], None]


class OutOfMemory(Exception):
    """The device has too little memory for this request; smaller ones may still be drawn."""


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


class ModelAdapter(Protocol):
    """One model on one device.

    Each method may raise the errors above; any other exception counts as the model's error on this request. The seam
    is between encoding, denoising and decoding; an engine that batches will cut `denoise` further.
    """

    @property
    def traits(self) -> Traits:
        """What the model can do; known once it is warmed up."""
        ...

    def warm_up(self) -> None:
        """Draw a small picture, so that the first request pays for no lazy start, and a broken model shows now."""
        ...

    def encode(self, request: DrawRequest) -> Conditioning:
        """Turn the prompts into what conditions the steps."""
        ...

    def denoise(
        self, request: DrawRequest, conditioning: Conditioning, *, seed: int, on_evaluation: OnEvaluation
    ) -> Latents:
        """Run all steps for one picture."""
        ...

    def preview(self, sketch: Sketch) -> Pixels | None:
        """Show roughly what will become of a picture, at next to no cost; None where the model has no previews."""
        ...

    def decode(self, latents: Latents) -> Pixels:
        """Turn latents into pixels."""
        ...

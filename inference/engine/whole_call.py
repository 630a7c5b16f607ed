"""The adapter of every pipeline that has none of its own: its `__call__`, whole."""

import inspect
from typing import Any

import numpy as np

from inference.engine.adapter import Conditioning, InvalidOutput, Latents, OnEvaluation, Sketch, Traits
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.pipelines import StockPipeline


class UnsuitablePipeline(Exception):
    """The pipeline draws no pictures from text alone, or cannot be stopped between steps."""


class WholeCallAdapter:
    """Calls a pipeline as its documentation says; encoding and decoding count as denoising, since nobody can tell.

    It has no previews: what the latents of an unknown pipeline are is not known either.
    """

    def __init__(self, pipeline: Any, *, name: str) -> None:
        self._takes = frozenset(inspect.signature(pipeline.__call__).parameters)
        needed = {"prompt", "num_inference_steps", "callback_on_step_end", "width", "height"}
        if missing := sorted(needed - self._takes):
            raise UnsuitablePipeline(f"{type(pipeline).__name__} takes no {', '.join(missing)}")
        self._pipeline = StockPipeline(pipeline, name=name)

    @property
    def traits(self) -> Traits:
        """What the model can do."""
        return self._pipeline.traits

    def warm_up(self) -> None:
        """Draw a small picture."""
        request = self._pipeline.warm_up_request()
        self.denoise(request, self.encode(request), seed=request.seed, on_evaluation=lambda *_evaluation: None)

    def encode(self, request: DrawRequest) -> Conditioning:
        """Choose the arguments that this pipeline takes."""
        arguments = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "guidance_scale": request.guidance_scale,
        }
        return {name: value for name, value in arguments.items() if name in self._takes}

    def denoise(
        self, request: DrawRequest, conditioning: Conditioning, *, seed: int, on_evaluation: OnEvaluation
    ) -> Latents:
        """Draw one picture, pixels and all."""
        self._pipeline.renew_scheduler(request.scheduler)
        return self._pipeline.draw(
            request,
            seed=seed,
            on_evaluation=lambda done, evaluations: on_evaluation(done, evaluations, None),
            output_type="np",
            **conditioning,
        )

    def preview(self, sketch: Sketch) -> Pixels | None:  # noqa: ARG002  # the adapters' interface
        """Show nothing."""
        return None

    def decode(self, latents: Latents) -> Pixels:
        """Round the pixels, as diffusers does for PIL.

        Raises:
            InvalidOutput: they are not all numbers.
        """
        if not np.isfinite(latents).all():
            raise InvalidOutput("the picture came out as not-a-number")
        (picture,) = latents
        return np.asarray((picture * 255).round().astype("uint8"))

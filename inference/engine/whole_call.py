"""The adapter of every pipeline that has none of its own: its `__call__`, whole."""

import inspect
from typing import Any

import numpy as np
import torch

from inference import schedulers
from inference.engine import pipelines
from inference.engine.adapter import InvalidOutput, OnEvaluation, Traits
from inference.engine.device_memory import MemoryGauge
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.observer import UNOBSERVED, Observer


class UnsuitablePipeline(Exception):
    """The pipeline draws no pictures from text alone, or cannot be stopped between steps."""


class WholeCallAdapter:
    """Calls a pipeline as its documentation says; encoding and decoding count as denoising, since nobody can tell.

    It has no previews: what the latents of an unknown pipeline are is not known either.
    """

    def __init__(self, pipeline: Any, *, name: str, observer: Observer = UNOBSERVED) -> None:
        self._takes = frozenset(inspect.signature(pipeline.__call__).parameters)
        needed = {"prompt", "num_inference_steps", "callback_on_step_end", "width", "height"}
        if missing := sorted(needed - self._takes):
            raise UnsuitablePipeline(f"{type(pipeline).__name__} takes no {', '.join(missing)}")
        self._pipeline = pipeline
        self._traits = pipelines.traits_of(pipeline, name=name)
        self._saved_scheduler = pipeline.scheduler
        self._memory = MemoryGauge(torch.device(pipeline.device), observer)

    @property
    def traits(self) -> Traits:
        """What the model can do."""
        return self._traits

    def warm_up(self) -> None:
        """Draw a small picture."""
        request = pipelines.warm_up_request(self._traits, device=torch.device(self._pipeline.device))
        self.draw(request, seed=request.seed, on_evaluation=lambda *_evaluation: None)

    def draw(self, request: DrawRequest, *, seed: int, on_evaluation: OnEvaluation) -> Pixels:
        """Draw one picture, and round its pixels as diffusers does for PIL.

        Raises:
            InvalidOutput: they are not all numbers.
        """

        def on_step_end(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self._memory.look()
            on_evaluation(index + 1, self._pipeline.num_timesteps)
            return tensors

        # A fresh one for each picture, since it holds the state of one run.
        self._pipeline.scheduler = schedulers.build(request.scheduler, self._saved_scheduler)
        with pipelines.device_errors():
            (picture,) = self._pipeline(
                width=request.width,
                height=request.height,
                num_inference_steps=request.steps,
                # On the CPU, so that all devices start from the same noise.
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end=on_step_end,
                output_type="np",
                **self._prompts(request),
            ).images
        if not np.isfinite(picture).all():
            raise InvalidOutput("the picture came out as not-a-number")
        return np.asarray((picture * 255).round().astype("uint8"))

    def _prompts(self, request: DrawRequest) -> dict[str, Any]:
        """Choose the arguments that this pipeline takes."""
        arguments = {
            "prompt": request.prompt,
            # An empty one is none: that is what it is called where people use diffusers.
            "negative_prompt": request.negative_prompt or None,
            "guidance_scale": request.guidance_scale,
        }
        return {name: value for name, value in arguments.items() if name in self._takes}

"""What a user of diffusers would do without Easel: batch requests that ask for the same, from start to end."""

from collections import deque
from typing import Any

import numpy as np
import torch

from inference import schedulers
from inference.engine import pipelines
from inference.engine.adapter import Traits
from inference.engine.drawing import Order
from inference.engine.engine import DrawRequest, Finished, Phase, PhaseStarted, Stepped, Stopped
from inference.engine.pulse import Pulse

#: All that wait may be looked through for what fits together.
SLOTS = 1_000_000


class WholeBatchLoop:
    """Calls the stock pipeline for the request that has waited longest and all that go with it."""

    slots = SLOTS

    def __init__(self, pipeline: Any, pulse: Pulse, *, most_pictures: int) -> None:
        self._pipeline = pipeline
        self._pulse = pulse
        self._most_pictures = most_pictures
        self._saved_scheduler = pipeline.scheduler
        self._waiting: deque[Order] = deque()
        #: Pictures in each batch.
        self.batches: list[int] = []

    def warm_up(self) -> Traits:
        """Draw a picture."""
        traits = pipelines.traits_of(self._pipeline, name="")
        request = pipelines.warm_up_request(traits, device=self._pipeline.device)
        self._pipeline(request.prompt, width=request.width, height=request.height, num_inference_steps=2)
        return traits

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting

    def take(self, order: Order) -> None:
        """Take in a request."""
        self._waiting.append(order)

    def tick(self) -> None:
        """Draw a batch, whole."""
        self._drop_cancelled()
        if not self._waiting:
            return
        key = _key(self._waiting[0].request)
        batch = [order for order in self._waiting if _key(order.request) == key][: self._most_pictures]
        for order in batch:
            self._waiting.remove(order)
            order.emit(PhaseStarted(phase=Phase.DENOISING))
        self.batches.append(len(batch))
        self._draw(batch)

    def _drop_cancelled(self) -> None:
        for order in [order for order in self._waiting if order.cancelled]:
            self._waiting.remove(order)
            order.emit(Stopped())

    def _draw(self, batch: list[Order]) -> None:
        first = batch[0].request

        def on_step_end(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step = (index + 1) * first.steps // self._pipeline.num_timesteps
            for order in batch:
                order.emit(Stepped(step=step, steps=first.steps, seconds=0.0))
            return tensors

        self._pipeline.scheduler = schedulers.build(first.scheduler, self._saved_scheduler)
        pictures = self._pipeline(
            [order.request.prompt for order in batch],
            width=first.width,
            height=first.height,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance_scale,
            generator=[torch.Generator().manual_seed(order.request.seed) for order in batch],
            callback_on_step_end=on_step_end,
        ).images
        for order, picture in zip(batch, pictures, strict=True):
            # One that was given up could not leave before the others.
            end = Stopped() if order.cancelled else Finished(pictures=(np.asarray(picture),), phase_seconds={})
            order.emit(end)


def _key(request: DrawRequest) -> tuple[object, ...]:
    return (request.width, request.height, request.steps, request.guidance_scale, request.scheduler)

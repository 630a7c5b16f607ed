"""A picture in the midst of its steps, as latent diffusion has it."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from inference.engine.sketch import Sketch


@dataclass(eq=False, kw_only=True, slots=True)
class LatentState:
    """One picture's latents, and all that its steps need; nothing in it is shared with another picture's."""

    #: 1 x channels x height x width.
    latents: torch.Tensor
    #: Its own, since it holds the state of one run.
    scheduler: Any
    #: What else the scheduler's step takes, such as the picture's own generator.
    step_arguments: Mapping[str, Any]
    guidance_scale: float
    #: What the denoiser is conditioned on, by name: rows x ... With guidance there are two rows, the negative first.
    conditions: Mapping[str, torch.Tensor]
    done: int = 0
    #: The latest evaluation.
    sketch: Sketch | None = None
    key: Hashable = field(init=False)

    def __post_init__(self) -> None:
        shapes = {name: tuple(condition.shape[1:]) for name, condition in self.conditions.items()}
        self.key = (*self.latents.shape[1:], *sorted(shapes.items()))

    @property
    def rows(self) -> int:
        """How many rows it takes in a batch."""
        return int(next(iter(self.conditions.values())).shape[0])

    @property
    def evaluations(self) -> int:
        """How often the denoiser is evaluated for it."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep of the next evaluation, on the CPU."""
        timestep: torch.Tensor = self.scheduler.timesteps[self.done]
        return timestep

    def model_input(self) -> torch.Tensor:
        """Give what the denoiser is to see: rows x channels x height x width."""
        expanded = torch.cat([self.latents] * self.rows)
        scaled: torch.Tensor = self.scheduler.scale_model_input(expanded, self.timestep)
        return scaled

    def guide(self, predicted: torch.Tensor) -> torch.Tensor:
        """Combine the rows of what the denoiser said, as diffusers does: 1 x channels x height x width.

        Classifier-free guidance (Ho and Salimans 2022).
        """
        if self.rows == 1:
            return predicted
        without, with_prompt = predicted.chunk(2)
        return without + self.guidance_scale * (with_prompt - without)

    def advance(self, prediction: torch.Tensor) -> None:
        """Take a step; where that fails, nothing has changed but what belongs to this picture alone."""
        timestep, latents = self.timestep, self.latents
        (self.latents, *_) = self.scheduler.step(
            prediction, timestep, latents, **self.step_arguments, return_dict=False
        )
        self.sketch = Sketch(scheduler=self.scheduler, timestep=timestep, noisy_latents=latents, prediction=prediction)
        self.done += 1

"""Draws with the model as anybody would who has diffusers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference import models
from inference.postcard.painting.canvas import Pixels

MODEL = "postcard"
#: What its card says, and what is taken for a model whose card says nothing.
STEPS, GUIDANCE_SCALE = 20, 4.5


class Drawing:
    """A pipeline at the defaults of its card."""

    def __init__(self, model: str = MODEL) -> None:
        """Load a model by its name or folder.

        Raises:
            ModelUnavailable: there is none, or it cannot be loaded.
        """
        self.folder = models.locate(model)
        card = models.read_card(self.folder)
        self.steps, self.guidance_scale = card.default_steps or STEPS, card.default_guidance_scale or GUIDANCE_SCALE
        models.quieten(offline=True)
        from diffusers import StableDiffusionPipeline  # noqa: PLC0415  # only once it is kept quiet

        try:
            self._pipeline: Any = StableDiffusionPipeline.from_pretrained(self.folder)
        except models.LOADING_ERRORS as error:
            raise models.ModelUnavailable(f"{model} cannot be loaded: {error!r}") from error
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], *, negative_prompts: Sequence[str] | None = None
    ) -> list[Pixels]:
        """Draw prompts in one batch, each with a seed of its own, and a negative prompt if there are any."""
        pictures = self._pipeline(
            list(prompts),
            negative_prompt=list(negative_prompts or [""] * len(prompts)),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
        return [np.asarray(picture.convert("RGB")) for picture in pictures]


def tensor(pictures: Sequence[Pixels] | Pixels) -> Tensor:
    """Turn bytes, N x height x width x 3, into numbers from -1 to 1, N x 3 x height x width."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1

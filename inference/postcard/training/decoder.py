"""Finishes the decoder: of latents that are a little off, as drawn ones are, it learns to make clean pictures.

Trained with the encoder, it has seen none but the encoder's own, and shows every inaccuracy as a stain.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.postcard.drawing import tensor
from inference.postcard.training import loop
from inference.postcard.training.autoencoder import errors
from inference.postcard.training.pictures import Pictures
from inference.postcard.training.progress import Bars

PLAN = loop.Plan(steps=1600, batch=8, learning_rate=6e-4)
#: How far off latents of unit variance are at most.
NOISE = 0.35


def train(autoencoder: Any, pictures: Pictures, latents: Tensor, *, folder: Path, seed: int, bars: Bars) -> Any:
    """Train the decoder of an autoencoder on pictures, N x 128 x 128 x 3, and their latents, N x 8 x 16 x 16.

    What the encoder does stays as it is: the denoiser learns from its latents.
    """
    for part in (autoencoder.post_quant_conv, autoencoder.decoder):
        part.requires_grad_(requires_grad=True)

    def losses(_done: float) -> Mapping[str, Tensor]:
        chosen = torch.randint(len(latents), (PLAN.batch,))
        off = NOISE * torch.rand((PLAN.batch, 1, 1, 1)) * torch.randn(latents[chosen].shape)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = autoencoder.decode(latents[chosen] + off).sample.float()
        parts = errors(decoded, tensor(pictures[chosen.numpy()]))
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    return loop.train("decoder", autoencoder, losses, PLAN, folder=folder, seed=seed, bars=bars)

"""Shows latents at next to no cost: a linear stand-in for a VAE's decoder, fitted to that decoder at load."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch.nn import functional

from inference.engine.engine import Pixels

#: Turns latents into pictures from -1 to 1: B x C x h x w into B x 3 x height x width.
Decode: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

#: Width and height at most, in pixels.
MAX_SIDE_PIXELS = 256
#: One latent becomes a block of so many pixels a side, or as many as it stands for if they are fewer.
MAX_BLOCK_PIXELS = 4

#: What is decoded for the fit: together as much as one picture of 32 x 32 latents.
SAMPLES = 16
SAMPLE_SIDE = 8
#: How smooth they are, in latents. Without pure noise (1) the weights of neighbours, which are nearly the same in all
#: that is smooth, would not be determined; and smooth is what pictures are.
SAMPLE_SCALES = (1, 2, 4, 8)
#: Holds small weights back that the samples hardly determine, as a share of the latents' variance.
RIDGE = 0.01
KERNEL = 3


class Unfit(Exception):
    """The decoder gave something other than numbers."""


class PreviewDecoder:
    """Turns latents into a small picture with one convolution.

    The pixels of a block are linear in the 3 x 3 latents around it. Decoders are far from linear, but colours and
    rough shapes are: enough to see what a picture will be, for less than a hundredth of the work.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, *, block_pixels: int) -> None:
        self._weight = weight
        self._bias = bias
        self.block_pixels = block_pixels

    @classmethod
    def fit(cls, decode: Decode, *, channels: int, device: torch.device, dtype: torch.dtype) -> "PreviewDecoder":
        """Fit one to a decoder by least squares, on latents of unit variance as models draw them.

        Raises:
            Unfit: what came out are not all numbers.
        """
        latents = _samples(channels).to(device, dtype)
        decoded = decode(latents).float().cpu()
        block = min(MAX_BLOCK_PIXELS, decoded.shape[-1] // SAMPLE_SIDE)
        small = functional.adaptive_avg_pool2d(decoded, SAMPLE_SIDE * block)
        weights = _solve(_neighbourhoods(latents.float().cpu()), _in_rows(functional.pixel_unshuffle(small, block)))
        if not torch.isfinite(weights).all():
            raise Unfit("the decoder gave something other than numbers")
        kernels = weights[:-1].T.reshape(-1, channels, KERNEL, KERNEL)
        return cls(kernels.float().to(device), weights[-1].float().to(device), block_pixels=block)

    def __call__(self, latents: torch.Tensor) -> Pixels:
        """Show the latents of one picture, 1 x C x h x w."""
        with torch.no_grad():
            blocks = functional.conv2d(_padded(latents.float()), self._weight, self._bias)
            picture = _bounded(functional.pixel_shuffle(blocks, self.block_pixels))
            levels = ((picture[0] + 1) * 127.5).nan_to_num(nan=0).round().clamp(0, 255)
            return np.ascontiguousarray(levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def _samples(channels: int) -> torch.Tensor:
    """Make noise that is smooth at several scales."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number in range(SAMPLES):
        side = SAMPLE_SIDE // SAMPLE_SCALES[number % len(SAMPLE_SCALES)]
        # Of one latent too many, since that of a single one would be flat, with a variance of nothing.
        noise = torch.randn(1, channels, side + 1, side + 1, generator=generator)
        smooth = functional.interpolate(noise, size=(SAMPLE_SIDE, SAMPLE_SIDE), mode="bicubic", align_corners=False)
        samples.append((smooth - smooth.mean()) / smooth.std())
    return torch.cat(samples)


def _neighbourhoods(latents: torch.Tensor) -> torch.Tensor:
    """Make a row for each latent: those around it, as a convolution counts them, and a one."""
    rows = _in_rows(functional.unfold(_padded(latents), KERNEL).unflatten(2, latents.shape[2:]))
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def _in_rows(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.permute(0, 2, 3, 1).flatten(0, 2).double()


def _solve(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    ridge = RIDGE * len(given) * torch.eye(given.shape[1], dtype=given.dtype)
    ridge[-1, -1] = 0  # the mean is not to be held back
    return torch.linalg.solve(given.T @ given + ridge, given.T @ wanted)


def _padded(latents: torch.Tensor) -> torch.Tensor:
    return functional.pad(latents, [KERNEL // 2] * 4, mode="replicate")


def _bounded(picture: torch.Tensor) -> torch.Tensor:
    height, width = picture.shape[2:]
    factor = max(height, width) / MAX_SIDE_PIXELS
    if factor <= 1:
        return picture
    return functional.adaptive_avg_pool2d(picture, (max(1, round(height / factor)), max(1, round(width / factor))))

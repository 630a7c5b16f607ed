"""Trains the autoencoder: pictures of 128 x 128 x 3 become latents of 16 x 16 x 8, and pictures again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from inference.postcard.training import loop
from inference.postcard.training.pictures import Pictures
from inference.postcard.training.progress import Bars

PLAN = loop.Plan(steps=5000, batch=16, learning_rate=1e-3)
LATENT_CHANNELS = 8
#: Crops are as good to learn from as whole pictures, and four times as many.
CROP_PIXELS = 64
#: Against blur, the differences between neighbours count beside the values themselves.
EDGE_WEIGHT = 1.0
#: Keeps latents near a normal distribution, so that a little error in them is a little error in the picture.
KL_WEIGHT = 1e-4
#: How many pictures the latents are measured on.
MEASURED = 1024
ENCODED_AT_ONCE = 64


def build() -> Any:
    """Make one without training."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        # Attention over a crop is another than over a picture.
        mid_block_add_attention=False,
    )


def train(pictures: Pictures, *, folder: Path, seed: int, bars: Bars) -> Any:
    """Train one on pictures, N x 128 x 128 x 3, and give it latents of no mean and unit variance."""
    autoencoder = build()

    def losses(generator: torch.Generator) -> Mapping[str, Tensor]:
        crops = _crops(pictures, generator)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = autoencoder.encode(crops).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
        picture = (decoded - crops).abs().mean()
        edge = _edges(decoded - crops)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": picture + EDGE_WEIGHT * edge + KL_WEIGHT * kl, "picture": picture, "edge": edge, "kl": kl}

    trained = loop.train("autoencoder", autoencoder, losses, PLAN, folder=folder, seed=seed, bars=bars)
    _standardise(trained, pictures[:MEASURED])
    return trained


def encode(autoencoder: Any, pictures: Pictures, *, bars: Bars) -> Tensor:
    """Encode pictures, N x 128 x 128 x 3, to the means of their latents, N x 8 x 16 x 16."""
    latents = []
    starts = range(0, len(pictures), ENCODED_AT_ONCE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), bars.task("encode", len(starts)) as bar:
        for start in starts:
            batch = tensor(pictures[start : start + ENCODED_AT_ONCE])
            latents.append(autoencoder.encode(batch).latent_dist.mean.float())
            bar.advance()
    return torch.cat(latents)


def tensor(pictures: Pictures) -> Tensor:
    """Turn bytes, N x height x width x 3, into numbers from -1 to 1, N x 3 x height x width."""
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1


def _crops(pictures: Pictures, generator: torch.Generator) -> Tensor:
    spare = pictures.shape[1] - CROP_PIXELS + 1
    crops = []
    for _ in range(PLAN.batch):
        number, top, left = (
            int(torch.randint(0, end, (), generator=generator)) for end in (len(pictures), spare, spare)
        )
        crops.append(torch.from_numpy(pictures[number, top : top + CROP_PIXELS, left : left + CROP_PIXELS].copy()))
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(difference: Tensor) -> Tensor:
    across = functional.l1_loss(difference[..., 1:], difference[..., :-1])
    down = functional.l1_loss(difference[..., 1:, :], difference[..., :-1, :])
    return across + down


def _standardise(autoencoder: Any, pictures: Pictures) -> None:
    """Fold the mean and the spread of each channel into the last layer before the latents and the first after them.

    A denoiser expects unit variance, and the one scaling factor of the format is for all channels together.
    """
    latents = encode(autoencoder, pictures, bars=Bars.silent())
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    before, after = autoencoder.quant_conv, autoencoder.post_quant_conv
    with torch.no_grad():
        before.weight[:LATENT_CHANNELS] /= spread[:, None, None, None]
        before.bias[:LATENT_CHANNELS] = (before.bias[:LATENT_CHANNELS] - mean) / spread
        before.bias[LATENT_CHANNELS:] -= 2 * spread.log()
        after.bias += after.weight[:, :, 0, 0] @ mean
        after.weight *= spread[None, :, None, None]

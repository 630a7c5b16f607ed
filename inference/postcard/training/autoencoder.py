"""Trains the autoencoder: pictures of 128 x 128 x 3 become latents of 16 x 16 x 8, and pictures again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from inference.postcard.drawing import tensor
from inference.postcard.training import loop
from inference.postcard.training.pictures import Pictures
from inference.postcard.training.progress import Bars
from inference.postcard.training.start import start

PLAN = loop.Plan(steps=5600, batch=16, learning_rate=1e-3)
LATENT_CHANNELS = 8
#: Crops are as good to learn shapes from as whole pictures, and four times as many for the same work. Then whole
#: pictures follow, since the group norms see other means and spreads in them.
CROP_PIXELS = 64
WHOLE_FROM = 0.4
#: Against blur, the differences between neighbours come to count beside the values themselves: from the first of these
#: shares of the steps on, and fully from the second. Before there are shapes, edges in the wrong place cost more than
#: none, and would be unlearnt.
EDGES_FROM, EDGES_FULL = 0.15, 0.5
#: At first the latents are hardly noisy.
FIRST_LOG_VARIANCE = -4.0
#: Keeps latents near a normal distribution, so that a little error in them is a little error in the picture.
KL_WEIGHT = 1e-4
#: How many pictures the latents are measured on.
MEASURED = 1024
ENCODED_AT_ONCE = 16


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
    start(autoencoder)
    with torch.no_grad():
        autoencoder.quant_conv.bias[LATENT_CHANNELS:] = FIRST_LOG_VARIANCE

    def losses(done: float) -> Mapping[str, Tensor]:
        crops = _crops(pictures, side=CROP_PIXELS if done < WHOLE_FROM else pictures.shape[1])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = autoencoder.encode(crops).latent_dist
            noise = torch.randn(posterior.mean.shape)
            decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
        parts = errors(decoded, crops)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        edge_weight = min(1.0, max(0.0, (done - EDGES_FROM) / (EDGES_FULL - EDGES_FROM)))
        loss = parts["picture"] + parts["square"] + edge_weight * parts["edge"] + KL_WEIGHT * kl
        return {"loss": loss, **parts, "kl": kl}

    trained = loop.train("autoencoder", autoencoder, losses, PLAN, folder=folder, seed=seed, bars=bars)
    _standardise(trained, pictures[:MEASURED])
    return trained


def errors(decoded: Tensor, pictures: Tensor) -> Mapping[str, Tensor]:
    """Measure how far pictures, N x 3 x height x width, are from what they should be: in values, and at edges."""
    difference = decoded - pictures
    return {"picture": difference.abs().mean(), "square": difference.square().mean(), "edge": _edges(difference)}


def encoded(path: Path, autoencoder: Any, pictures: Pictures, *, bars: Bars) -> Tensor:
    """Give the latents of pictures out of a file, or encode them into it."""
    if path.is_file():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    latents = encode(autoencoder, pictures, bars=bars)
    unfinished = path.with_suffix(".part")
    torch.save(latents, unfinished)
    unfinished.replace(path)
    return latents


def encode(autoencoder: Any, pictures: Pictures, *, bars: Bars) -> Tensor:
    """Encode pictures, N x 128 x 128 x 3, to the means of their latents, N x 8 x 16 x 16."""
    latents = []
    firsts = range(0, len(pictures), ENCODED_AT_ONCE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), bars.task("encode", len(firsts)) as bar:
        for first in firsts:
            batch = tensor(pictures[first : first + ENCODED_AT_ONCE])
            latents.append(autoencoder.encode(batch).latent_dist.mean.float())
            bar.advance()
    return torch.cat(latents)


def _crops(pictures: Pictures, *, side: int) -> Tensor:
    """Take as many squares as make the pixels of a batch of crops, from -1 to 1."""
    spare = pictures.shape[1] - side + 1
    crops = []
    for _ in range(PLAN.batch * CROP_PIXELS**2 // side**2):
        number, top, left = (int(torch.randint(0, end, ())) for end in (len(pictures), spare, spare))
        crops.append(pictures[number, top : top + side, left : left + side])
    return tensor(crops)


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

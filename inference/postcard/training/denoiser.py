"""Trains the denoiser, on latents and ever new captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from inference.postcard.training import loop, text
from inference.postcard.training.autoencoder import LATENT_CHANNELS
from inference.postcard.training.progress import Bars
from inference.postcard.training.start import start
from inference.postcard.world import Idea

PLAN = loop.Plan(steps=16_000, batch=32, learning_rate=8e-4)
#: Of each batch, so many more are at timesteps where most is noise: there it is decided what colour a thing has.
NOISY_SHARE = 0.4
#: And so many more show a thing whose colour is asked for: that is what a denoiser gets wrong most often.
COLOURED_SHARE = 0.4
#: So often nothing is said, so that guidance has something to lead away from.
UNSAID = 0.1


def build() -> Any:
    """Make a denoiser without training."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 112),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text.EMBEDDING_SIZE,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """Make the scheduler that the model is trained with, and saved with.

    Its betas are those of Ho et al. 2020, not those of Stable Diffusion, after which 0.5 % of the variance is still
    signal. That is enough for a denoiser to read the mean colours off, and to see some in pure noise, whatever was
    asked.
    """
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        # Of no effect with this spacing, but the pipeline complains of any other.
        steps_offset=1,
    )
    # Not for itself: others are made of its configuration, some of which would cut latents off at 1 otherwise.
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def train(
    latents: Tensor, ideas: Sequence[Idea], tokenizer: Any, text_encoder: Any, *, folder: Path, seed: int, bars: Bars
) -> Any:
    """Train a denoiser on latents, N x 8 x 16 x 16, and ever new captions of what each shows.

    The denoiser learns to predict velocities (Salimans and Ho 2022, appendix D): they are of unit size at every
    timestep, so that each counts alike.
    """
    denoiser = build()
    start(denoiser)
    scheduler = build_scheduler()
    signal, noise_share = scheduler.alphas_cumprod.sqrt(), (1 - scheduler.alphas_cumprod).sqrt()
    pictures, all_timesteps = torch.arange(len(latents)), torch.arange(len(signal))
    coloured = [number for number, idea in enumerate(ideas) if "colour" in idea.said]

    def losses(_done: float) -> Mapping[str, Tensor]:
        chosen = _mixed(pictures, pictures[coloured], share=COLOURED_SHARE)
        clean = latents[chosen]
        captions = _captions([ideas[number] for number in chosen.tolist()])
        timesteps = _mixed(all_timesteps, all_timesteps[len(signal) // 2 :], share=NOISY_SHARE)
        noise = torch.randn(clean.shape)
        a, s = (share[timesteps, None, None, None] for share in (signal, noise_share))
        with torch.autocast("cpu", torch.bfloat16):
            conditioning = text_encoder(text.tokens(tokenizer, captions)).last_hidden_state
            velocity = denoiser(a * clean + s * noise, timesteps, conditioning).sample.float()
        return {"loss": functional.mse_loss(velocity, a * noise - s * clean)}

    return loop.train("denoiser", denoiser, losses, PLAN, folder=folder, seed=seed, bars=bars)


def _mixed(usual: Tensor, favoured: Tensor, *, share: float) -> Tensor:
    """Choose a batch of numbers, a share of it among those that are favoured, if there are any."""
    chosen = usual[torch.randint(len(usual), (PLAN.batch,))]
    if not len(favoured):
        return chosen
    instead = favoured[torch.randint(len(favoured), (PLAN.batch,))]
    return torch.where(torch.rand(PLAN.batch) < share, instead, chosen)


def _captions(ideas: Sequence[Idea]) -> Sequence[str]:
    random = Random(int(torch.randint(2**62, ())))
    return ["" if random.random() < UNSAID else text.caption(idea, random) for idea in ideas]

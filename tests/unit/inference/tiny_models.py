"""Pipelines of the families that the engine cuts at their steps, as small as they can be, with random weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from inference import models

WIDTH = 32
#: Latents a side; a picture has twice as many pixels.
SIDE = 8

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_TOKENIZER = models.BUNDLED["postcard"] / "tokenizer"


def make(family: str, folder: Path) -> Path:
    """Save a model of a family into a folder, always the same."""
    torch.manual_seed(5)
    FAMILIES[family]().save_pretrained(folder)
    return folder


def sd() -> Any:
    """Stable Diffusion 1."""
    return StableDiffusionPipeline(
        **_parts(), scheduler=DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    )


def sd_2() -> Any:
    """Stable Diffusion 2, which predicts velocities."""
    scheduler = DDIMScheduler(
        **_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"
    )
    return StableDiffusionPipeline(**_parts(use_linear_projection=True), scheduler=scheduler)


def sd_turbo() -> Any:
    """What was distilled for few steps without guidance."""
    scheduler = EulerDiscreteScheduler(**_BETAS, timestep_spacing="trailing", steps_offset=1)
    return StableDiffusionPipeline(**_parts(), scheduler=scheduler)


def lcm() -> Any:
    """A latent consistency model, into which the guidance scale goes as an embedding."""
    scheduler = LCMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=True)
    parts = _parts(time_cond_proj_dim=32)
    return LatentConsistencyModelPipeline(**parts, scheduler=scheduler)


def sdxl() -> Any:
    """Stable Diffusion XL, with two encoders and the size as a condition."""
    pooled_width = 2 * WIDTH
    parts = _parts(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=pooled_width + 6 * 8,
    )
    for needless in ("safety_checker", "feature_extractor", "requires_safety_checker"):
        del parts[needless]
    return StableDiffusionXLPipeline(
        **parts,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(projection_dim=pooled_width)).eval(),
        tokenizer_2=parts["tokenizer"],
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1),
        add_watermarker=False,
    )


FAMILIES: Mapping[str, Callable[[], Any]] = {
    "sd": sd,
    "sd-2": sd_2,
    "sd-turbo": sd_turbo,
    "lcm": lcm,
    "sdxl": sdxl,
}


def _parts(**denoiser: Any) -> dict[str, Any]:
    settings = {"cross_attention_dim": WIDTH, "sample_size": SIDE} | denoiser
    return {
        "tokenizer": CLIPTokenizer.from_pretrained(_TOKENIZER),
        "text_encoder": CLIPTextModel(_text_config()).eval(),
        "unet": UNet2DConditionModel(
            block_out_channels=(WIDTH, 2 * WIDTH),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            norm_num_groups=8,
            **settings,
        ).eval(),
        "vae": AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            norm_num_groups=4,
        ).eval(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _text_config(**given: Any) -> CLIPTextConfig:
    vocabulary = CLIPTokenizer.from_pretrained(_TOKENIZER)
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_attention_heads=2,
        num_hidden_layers=2,
        bos_token_id=vocabulary.bos_token_id,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        **given,
    )

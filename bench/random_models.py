"""Models of the sizes that people use, with random weights: as fast as the real ones, and nothing to download.

The configurations are those of the published checkpoints of Stable Diffusion 1.5 and Stable Diffusion XL 1.0. What they
draw is noise. The vocabulary is the bundled model's, which is short; that does not change what the encoders compute.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from inference import models

SEED = 5
TOKENS = 77
VOCABULARY = 49408

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make(name: str, folder: Path, *, device: str, dtype: torch.dtype) -> Path:
    """Save one of `MODELS` into a folder.

    Args:
        name: Its name.
        folder: Where to; gigabytes.
        device: Where its weights are drawn: a GPU is far faster at that.
        dtype: The precision that it is saved in.

    Returns:
        The folder.
    """
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipeline = MODELS[name]()
    finally:
        torch.set_default_dtype(before)
    pipeline.save_pretrained(folder)
    return folder


def sd15() -> Any:
    """Stable Diffusion 1.5."""
    return StableDiffusionPipeline(
        tokenizer=_tokenizer(),
        text_encoder=CLIPTextModel(_clip_l()),
        unet=sd15_unet(),
        vae=_vae(sample_size=512, scaling_factor=0.18215),
        scheduler=DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15_unet() -> Any:
    """Make its denoiser: 860 million parameters."""
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def sdxl() -> Any:
    """Stable Diffusion XL 1.0."""
    return StableDiffusionXLPipeline(
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        text_encoder=CLIPTextModel(_clip_l()),
        text_encoder_2=CLIPTextModelWithProjection(_open_clip_bigg()),
        unet=sdxl_unet(),
        vae=_vae(sample_size=1024, scaling_factor=0.13025),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1),
        add_watermarker=False,
    )


def sdxl_unet() -> Any:
    """Make its denoiser: 2.6 billion parameters."""
    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


MODELS: Mapping[str, Callable[[], Any]] = {"sd15": sd15, "sdxl": sdxl}


def _vae(*, sample_size: int, scaling_factor: float) -> Any:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=sample_size,
        scaling_factor=scaling_factor,
    )


def _tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(models.BUNDLED["postcard"] / "tokenizer", model_max_length=TOKENS)


def _clip_l() -> CLIPTextConfig:
    return _text_config(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)


def _open_clip_bigg() -> CLIPTextConfig:
    return _text_config(
        hidden_size=1280,
        intermediate_size=5120,
        num_attention_heads=20,
        num_hidden_layers=32,
        hidden_act="gelu",
        projection_dim=1280,
    )


def _text_config(**given: Any) -> CLIPTextConfig:
    tokenizer = _tokenizer()
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **given,
    )

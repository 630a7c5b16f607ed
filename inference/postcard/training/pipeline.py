"""Puts the trained parts together, in the format of the big models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from inference.models import CARD_FILE
from inference.postcard.drawing import GUIDANCE_SCALE, STEPS
from inference.postcard.training.denoiser import build_scheduler

CARD = {
    "name": "postcard",
    "description": "A very small text-to-image model of painted postcards, 128 x 128: landscapes with something in "
    "them, and plain shapes.",
    "defaults": {"steps": STEPS, "guidance_scale": GUIDANCE_SCALE},
}


def save(folder: Path, *, vae: Any, unet: Any, text_encoder: Any, tokenizer: Any) -> None:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` loads, its weights in half precision."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers would load half precision as it is, where diffusers makes it whole again: the two would not fit.
    config = folder / "text_encoder" / "config.json"
    _write(config, {**json.loads(config.read_text(encoding="utf-8")), "dtype": "float32"})
    _write(folder / CARD_FILE, CARD)


def make_readable(folder: Path) -> None:
    """Let everybody read what is in a folder: safetensors writes files for their owner alone."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

"""Builds an untrained, tiny Stable Diffusion pipeline: `python -m inference.tiny FOLDER`.

It has every part of the big one, in the same layout, and a step takes about 15 ms on one CPU core. What it draws are
coloured blobs that depend on prompt and seed, and show nothing.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from inference import models

SEED = 20_260_801
#: Side of a picture in pixels, and how many of them make one latent.
SIZE_PIXELS = 128
VAE_SCALE = 8
EMBEDDING_SIZE = 32
TOKENS = 77

CARD = {
    "name": "tiny",
    "description": "A tiny UNTRAINED Stable Diffusion for trying things out: it draws coloured noise, no motifs.",
    "max_threads": 1,
    "defaults": {"steps": 20},
}


def build(folder: Path) -> Path:
    """Make the model in a folder unless it is there already; a folder is never seen half filled."""
    if (folder / models.INDEX_FILE).is_file():
        return folder
    models.quieten(offline=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        _pipeline().save_pretrained(unfinished, safe_serialization=True)
        (unfinished / models.CARD_FILE).write_text(json.dumps(CARD, indent=2) + "\n", encoding="utf-8")
        _put_in_place(unfinished, folder)
    return folder


def _put_in_place(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        # Another process was faster, or something else lies there.
        if not (folder / models.INDEX_FILE).is_file():
            raise
        shutil.rmtree(unfinished)


def _pipeline() -> Any:
    import torch  # noqa: PLC0415  # takes seconds, and is not needed where the model is there already
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: PLC0415
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415

    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return StableDiffusionPipeline(
            tokenizer=tokenizer,
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=EMBEDDING_SIZE,
                    intermediate_size=2 * EMBEDDING_SIZE,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    projection_dim=EMBEDDING_SIZE,
                    max_position_embeddings=TOKENS,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            ).eval(),
            unet=UNet2DConditionModel(
                sample_size=SIZE_PIXELS // VAE_SCALE,
                block_out_channels=(32, 64, 64),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=EMBEDDING_SIZE,
                attention_head_dim=8,
                norm_num_groups=8,
            ).eval(),
            vae=AutoencoderKL(
                block_out_channels=(16, 16, 32, 32),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=1,
                norm_num_groups=8,
                sample_size=SIZE_PIXELS,
            ).eval(),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
                # An untrained network predicts about nothing: as a velocity that keeps the latents at unit variance,
                # whereas as noise it would blow them up fifteenfold.
                prediction_type="v_prediction",
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def _tokenizer() -> Any:
    """Make CLIP's tokenizer without a vocabulary of words: every byte is a token."""
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415
    from transformers import CLIPTokenizer  # noqa: PLC0415

    characters = sorted(ByteLevel.alphabet())
    tokens = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def main() -> None:
    """Build the model into the folder named on the command line, and print the folder."""
    parser = argparse.ArgumentParser(prog="python -m inference.tiny", description="Build the untrained tiny model.")
    parser.add_argument("folder", type=Path, help="where to; nothing is done when a model is there already")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()

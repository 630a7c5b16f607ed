"""Trains postcard from nothing, or goes on where it was stopped: `python -m inference.postcard.training FOLDER`."""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from inference.models import quieten
from inference.postcard.judge import WEIGHTS_FILE
from inference.postcard.training import autoencoder, denoiser, judge, pictures, pipeline, text
from inference.postcard.training.progress import Bars

PICTURES = 30_000
SEED = 1


def main() -> None:
    """Paint, train the three networks one after the other, and put the model together."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.training", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="where checkpoints are kept, and the model comes to lie: FOLDER/model"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="how many cores to use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quieten(offline=True)
    bars = Bars(Console())
    bars.say(f"Postcard's model comes to lie in {train(arguments.folder, bars=bars)}")


def train(folder: Path, *, bars: Bars) -> Path:
    """Train all that is not trained yet, and give the model's folder."""
    seed = f"postcard {SEED}"
    painted = pictures.painted(folder / "pictures.u8", PICTURES, seed=seed, bars=bars)
    ideas = pictures.ideas(PICTURES, seed=seed)

    torch.manual_seed(SEED)
    looking = judge.train(painted, ideas, folder=folder, seed=SEED, bars=bars)
    torch.manual_seed(SEED)
    coding = autoencoder.train(painted, folder=folder, seed=SEED, bars=bars)
    latents = autoencoder.encode(coding, painted, bars=bars)
    tokenizer = text.train_tokenizer(seed=seed)
    torch.manual_seed(SEED)
    denoising, reading = denoiser.train(latents, ideas, tokenizer, folder=folder, seed=SEED, bars=bars)

    model = folder / "model"
    pipeline.save(model, autoencoder=coding, denoiser=denoising, text_encoder=reading, tokenizer=tokenizer)
    save_file({name: weight.half() for name, weight in looking.state_dict().items()}, model / WEIGHTS_FILE)
    return model


if __name__ == "__main__":
    main()

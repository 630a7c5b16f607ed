"""Trains postcard from nothing, or goes on where it was stopped: `python -m inference.postcard.training FOLDER`."""

import argparse
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from inference.models import quieten
from inference.postcard import evaluate
from inference.postcard.judge import WEIGHTS_FILE
from inference.postcard.training import autoencoder, decoder, denoiser, judge, pipeline, recipe, text
from inference.postcard.training.pictures import Album
from inference.postcard.training.progress import Bars

PICTURES = 30_000
#: Those the judge learns from are others.
JUDGED = 12_000
SEED = 1


def main() -> None:
    """Train, and measure what came out."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints are kept; the model is written to FOLDER/model")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="how many cores to use")
    arguments = parser.parse_args()
    if arguments.threads < 1:
        parser.error("--threads: at least 1")
    quieten(offline=True)
    torch.set_num_threads(arguments.threads)
    bars = Bars(Console())
    try:
        model = train(arguments.folder, processes=arguments.threads, bars=bars)
    except (recipe.OtherRecipe, OSError) as error:
        sys.exit(str(error))
    bars.say(f"The model is in {model}.")
    evaluate.show(evaluate.evaluate(str(model), count=evaluate.PROMPTS))


def train(folder: Path, *, processes: int, bars: Bars) -> Path:
    """Train all that is not trained yet, and give the model's folder.

    Raises:
        OtherRecipe: what is in the folder was begun by other code.
    """
    recipe.check(folder, seed=SEED)
    bars.say(f"Training postcard in {folder}, with seed {SEED}.")
    others = Album(seed=f"judge {SEED}", imagine=judge.imagine_any)
    judged = others.painted(folder / "judged.u8", JUDGED, bars=bars, processes=processes)
    # What a network starts with does not depend on whether the ones before it were there already.
    torch.manual_seed(SEED)
    looking = judge.train(judged, others.ideas(JUDGED), folder=folder, seed=SEED, bars=bars)

    album = Album(seed=f"postcard {SEED}")
    painted = album.painted(folder / "pictures.u8", PICTURES, bars=bars, processes=processes)
    torch.manual_seed(SEED)
    coding = autoencoder.train(painted, folder=folder, seed=SEED, bars=bars)
    latents = autoencoder.encoded(folder / "latents.pt", coding, painted, bars=bars)
    coding = decoder.train(coding, painted, latents, folder=folder, seed=SEED, bars=bars)
    ideas, tokenizer = album.ideas(PICTURES), text.tokenizer(folder / "tokenizer", album)
    torch.manual_seed(SEED)
    reading = text.train_encoder(tokenizer, ideas, folder=folder, seed=SEED, bars=bars)
    torch.manual_seed(SEED)
    denoising = denoiser.train(latents, ideas, tokenizer, reading, folder=folder, seed=SEED, bars=bars)

    model = folder / "model"
    pipeline.save(model, autoencoder=coding, denoiser=denoising, text_encoder=reading, tokenizer=tokenizer)
    save_file({name: weight.half() for name, weight in looking.state_dict().items()}, model / WEIGHTS_FILE)
    return model


if __name__ == "__main__":
    main()

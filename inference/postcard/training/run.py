"""The whole training, one part after another, from painted pictures to a model that is measured."""

from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from inference.postcard import evaluate
from inference.postcard.judge import WEIGHTS_FILE
from inference.postcard.training import autoencoder, decoder, denoiser, judge, pipeline, recipe, text
from inference.postcard.training.pictures import Album
from inference.postcard.training.progress import Bars
from inference.postcard.training.recipe import OtherRecipe
from inference.postcard.world import imagine_any

__all__ = ["OtherRecipe", "run", "train"]

SEED = 1
PICTURES = 30_000
#: Of its own, for the judge.
JUDGE_PICTURES = 12_000


def run(folder: Path, *, threads: int) -> None:
    """Train on so many cores, show how far it has come, and measure what came out.

    Raises:
        OtherRecipe: what is in the folder was begun by other code.
        OSError: the folder cannot be written.
    """
    torch.set_num_threads(threads)
    bars = Bars(Console())
    model = train(folder, processes=threads, bars=bars)
    bars.say(f"The model is in {model}.")
    evaluate.show(evaluate.evaluate(str(model), count=evaluate.PROMPTS))


def train(folder: Path, *, processes: int, bars: Bars) -> Path:
    """Train all that is not trained yet, and give the model's folder.

    Raises:
        OtherRecipe: what is in the folder was begun by other code.
    """
    recipe.check(folder, seed=SEED)
    bars.say(f"Training postcard in {folder}, with seed {SEED}.")
    judge_album = Album(seed=f"judge {SEED}", imagine=imagine_any)
    judge_pictures = judge_album.painted(folder / "judge.u8", JUDGE_PICTURES, bars=bars, processes=processes)
    judge_ideas = judge_album.ideas(JUDGE_PICTURES)
    # What a network starts with does not depend on whether the ones before it were there already.
    torch.manual_seed(SEED)
    trained_judge = judge.train(judge_pictures, judge_ideas, folder=folder, seed=SEED, bars=bars)

    album = Album(seed=f"postcard {SEED}")
    pictures = album.painted(folder / "pictures.u8", PICTURES, bars=bars, processes=processes)
    torch.manual_seed(SEED)
    vae = autoencoder.train(pictures, folder=folder, seed=SEED, bars=bars)
    latents = autoencoder.encoded(folder / "latents.pt", vae, pictures, bars=bars)
    vae = decoder.train(vae, pictures, latents, folder=folder, seed=SEED, bars=bars)

    ideas, tokenizer = album.ideas(PICTURES), text.tokenizer(folder / "tokenizer", album)
    torch.manual_seed(SEED)
    text_encoder = text.train_encoder(tokenizer, ideas, folder=folder, seed=SEED, bars=bars)
    torch.manual_seed(SEED)
    unet = denoiser.train(latents, ideas, tokenizer, text_encoder, folder=folder, seed=SEED, bars=bars)

    model = folder / "model"
    pipeline.save(model, vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer)
    save_file({name: weight.half() for name, weight in trained_judge.state_dict().items()}, model / WEIGHTS_FILE)
    pipeline.make_readable(model)
    return model

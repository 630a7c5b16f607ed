"""The words the model reads: CLIP's tokenizer with a vocabulary of its own, and a small text encoder.

The encoder is trained before the denoiser, to tell what a caption says: trained together, a denoiser learns to remove
noise long before it begins to listen.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from inference.postcard.aspects import ASPECTS, classes, said_in
from inference.postcard.captions import describe
from inference.postcard.training import loop
from inference.postcard.training.pictures import Album
from inference.postcard.training.progress import Bars
from inference.postcard.world import Idea

PLAN = loop.Plan(steps=3000, batch=64, learning_rate=1e-3, average_decay=0.99)
VOCABULARY = 1536
MAX_TOKENS = 64
EMBEDDING_SIZE = 160
CAPTIONS = 40_000


def tokenizer(folder: Path, album: Album) -> Any:
    """Give the tokenizer out of a folder, or train it into it: what was trained with it knows its numbers."""
    if not folder.is_dir():
        unfinished = folder.with_suffix(".part")
        train_tokenizer(album).save_pretrained(unfinished)
        unfinished.rename(folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_tokenizer(album: Album) -> Any:
    """Learn from captions which letters belong together: a word of the world becomes one token, others several."""
    characters = sorted(ByteLevel.alphabet())
    tokens = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    bytes_alone = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=MAX_TOKENS
    )
    return bytes_alone.train_new_from_iterator(_captions(album), VOCABULARY, length=CAPTIONS, show_progress=False)


def build_encoder(tokenizer: Any) -> Any:
    """Make a text encoder without training."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=EMBEDDING_SIZE,
            intermediate_size=4 * EMBEDDING_SIZE,
            num_hidden_layers=3,
            num_attention_heads=5,
            projection_dim=EMBEDDING_SIZE,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train_encoder(tokenizer: Any, ideas: Sequence[Idea], *, folder: Path, seed: int, bars: Bars) -> Any:
    """Train a text encoder whose states at the end of a caption tell what it says of each aspect."""
    heads = {name: nn.Linear(EMBEDDING_SIZE, len(kinds) + 1) for name, kinds in ASPECTS.items()}
    network = nn.ModuleDict({"encoder": build_encoder(tokenizer), "heads": nn.ModuleDict(heads)})

    def losses(_done: float) -> Mapping[str, Tensor]:
        random = Random(int(torch.randint(2**62, ())))
        chosen = random.choices(ideas, k=PLAN.batch)
        rows = tokens(tokenizer, [caption(idea, random) for idea in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            states = network["encoder"](rows).last_hidden_state
            # The rest of a row is filled up with the token of its end, and the denoiser sees all of it.
            ends = (rows == tokenizer.eos_token_id)[..., None]
            meaning = (states * ends).sum(dim=1) / ends.sum(dim=1)
            scores = {name: head(meaning).float() for name, head in network["heads"].items()}
        right = classes([said_in(idea) for idea in chosen])
        parts = {name: functional.cross_entropy(scores[name], torch.tensor(right[name])) for name in scores}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    return loop.train("text", network, losses, PLAN, folder=folder, seed=seed, bars=bars)["encoder"]


def tokens(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Turn captions into numbers, N x 64, as the pipeline does."""
    numbers: Tensor = tokenizer(
        list(captions), padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return numbers


def caption(idea: Idea, random: Random) -> str:
    """Say what an idea says, in words of training."""
    return describe(idea, random, held_out=False)


def _captions(album: Album) -> Iterator[str]:
    for number in range(CAPTIONS):
        yield caption(album.idea(number), Random(f"{album.seed} vocabulary {number}"))

"""Trains the judge on the pictures of the painter."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from inference.postcard.aspects import classes, shown_in
from inference.postcard.drawing import tensor
from inference.postcard.judge import Judge
from inference.postcard.training import loop
from inference.postcard.training.pictures import Pictures
from inference.postcard.training.progress import Bars
from inference.postcard.world import Idea

PLAN = loop.Plan(steps=1500, batch=48, learning_rate=1e-3)
#: What is drawn is never quite as clean as what is painted: so noise, blur and brightness vary.
NOISE, BRIGHTNESS, BLURRED = 0.06, 0.06, 0.3


def train(pictures: Pictures, ideas: Sequence[Idea], *, folder: Path, seed: int, bars: Bars) -> Judge:
    """Train a judge on pictures, N x 128 x 128 x 3, and what they show."""
    judge = Judge()
    shown = classes([shown_in(idea.scene) for idea in ideas])
    right = {name: torch.tensor(numbers) for name, numbers in shown.items()}

    def losses(_done: float) -> Mapping[str, Tensor]:
        chosen = torch.randint(len(pictures), (PLAN.batch,))
        batch = _degraded(tensor(pictures[chosen.numpy()]))
        with torch.autocast("cpu", torch.bfloat16):
            scores = judge(batch)
        parts = {name: functional.cross_entropy(scores[name].float(), right[name][chosen]) for name in scores}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    return loop.train("judge", judge, losses, PLAN, folder=folder, seed=seed, bars=bars)


def _degraded(pictures: Tensor) -> Tensor:
    count = len(pictures)
    each = (count, 1, 1, 1)
    blurred = functional.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    pictures = torch.where(torch.rand(each) < BLURRED, blurred, pictures)
    brighter = BRIGHTNESS * torch.randn((count, 3, 1, 1))
    noise = NOISE * torch.rand(each) * torch.randn(pictures.shape)
    return pictures + brighter + noise

"""Tells what a picture shows: the judge of what the model draws."""

import itertools
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from inference.models import ModelUnavailable
from inference.postcard.aspects import ASPECTS, Shown

WEIGHTS_FILE = "judge.safetensors"


class Judge(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """Classifies pictures, N x 3 x 128 x 128 from -1 to 1, by each aspect: N x (what it may be and "absent")."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 16, 32, 48, 64, 96)
        blocks = [_block(before, after) for before, after in itertools.pairwise(channels)]
        self._body = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(96 * 4 * 4, 96), nn.SiLU(), nn.Dropout(0.1))
        self._heads = nn.ModuleDict({name: nn.Linear(96, len(kinds) + 1) for name, kinds in ASPECTS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Give the scores of each aspect."""
        features = self._body(pictures)
        return {name: head(features) for name, head in self._heads.items()}

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """Load one that was trained.

        Raises:
            ModelUnavailable: there is none, or it is of other code.
        """
        judge = cls()
        try:
            weights = load_file(folder / WEIGHTS_FILE)
            judge.load_state_dict({name: weight.float() for name, weight in weights.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelUnavailable(f"{folder / WEIGHTS_FILE} is no judge: {error}") from error
        judge.eval()
        return judge

    def look(self, pictures: Tensor) -> list[Shown]:
        """Say what each picture shows."""
        with torch.no_grad():
            chosen = {name: scores.argmax(dim=1).tolist() for name, scores in self(pictures).items()}
        return [
            {name: (*ASPECTS[name], None)[numbers[index]] for name, numbers in chosen.items()}
            for index in range(len(pictures))
        ]


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1),
        nn.GroupNorm(8, after),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.GroupNorm(8, after),
        nn.SiLU(),
    )

"""Tells what a picture shows: the judge of what the model draws."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from inference.postcard.world import Colour, Figure, Ground, Landscape, Scene, Shape, Sky, Subject

#: What is judged, and what it may be; beside these, each may be absent.
ASPECTS: Final[Mapping[str, Sequence[StrEnum]]] = {
    "sky": tuple(Sky),
    "ground": tuple(Ground),
    "subject": (*Subject, *Shape),
    "colour": tuple(Colour),
    "background": tuple(Colour),
}
WEIGHTS_FILE = "judge.safetensors"


class Judge(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """Classifies pictures, N x 3 x 128 x 128 from -1 to 1, by each aspect: N x (what it may be and "absent")."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 24, 48, 96, 128, 128)
        blocks = [_block(before, after) for before, after in itertools.pairwise(channels)]
        self._body = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(128 * 4 * 4, 192), nn.SiLU(), nn.Dropout(0.1))
        self._heads = nn.ModuleDict({name: nn.Linear(192, len(kinds) + 1) for name, kinds in ASPECTS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Give the scores of each aspect."""
        features = self._body(pictures)
        return {name: head(features) for name, head in self._heads.items()}

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """Load one that was trained."""
        judge = cls()
        weights = load_file(folder / WEIGHTS_FILE)
        judge.load_state_dict({name: weight.float() for name, weight in weights.items()})
        judge.eval()
        return judge

    def look(self, pictures: Tensor) -> list[dict[str, StrEnum | None]]:
        """Say what each picture shows."""
        with torch.no_grad():
            chosen = {name: scores.argmax(dim=1).tolist() for name, scores in self(pictures).items()}
        return [
            {name: (*ASPECTS[name], None)[numbers[index]] for name, numbers in chosen.items()}
            for index in range(len(pictures))
        ]


def aspects_of(scene: Scene) -> dict[str, StrEnum | None]:
    """Say what a scene shows, as the judge would."""
    match scene:
        case Landscape():
            return {**_fields(scene), "background": None}
        case Figure():
            fields = _fields(scene)
            return {"sky": None, "ground": None, "subject": fields.pop("shape"), **fields}


def numbers(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Give the right classes of scenes, N of each aspect."""
    shown = [aspects_of(scene) for scene in scenes]
    return {name: torch.tensor([(*kinds, None).index(one[name]) for one in shown]) for name, kinds in ASPECTS.items()}


def _fields(scene: Scene) -> dict[str, StrEnum | None]:
    return {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1),
        nn.GroupNorm(8, after),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.GroupNorm(8, after),
        nn.SiLU(),
    )

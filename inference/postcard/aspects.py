"""The aspects of a scene that can be asked for, and judged."""

import dataclasses
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from inference.postcard.world import Colour, Figure, Ground, Idea, Landscape, Scene, Shape, Sky, Subject

#: What each may be; beside these, each may be absent.
ASPECTS: Final[Mapping[str, Sequence[StrEnum]]] = {
    "sky": tuple(Sky),
    "ground": tuple(Ground),
    "subject": (*Subject, *Shape),
    "colour": tuple(Colour),
    "background": tuple(Colour),
}

#: What one scene or picture shows; nothing for what is absent.
Shown: TypeAlias = Mapping[str, StrEnum | None]


def shown_in(scene: Scene) -> Shown:
    """Say what a scene shows."""
    fields = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    match scene:
        case Landscape():
            return {**fields, "background": None}
        case Figure():
            return {"sky": None, "ground": None, "subject": fields.pop("shape"), **fields}


def said_in(idea: Idea) -> Shown:
    """Say what an idea's caption tells of its scene."""
    said = {"subject" if name == "shape" else name for name in idea.said}
    return {name: kind if name in said else None for name, kind in shown_in(idea.scene).items()}


def classes(shown: Sequence[Shown]) -> dict[str, list[int]]:
    """Number what is shown, for each aspect; what is absent comes last."""
    return {name: [(*kinds, None).index(one[name]) for one in shown] for name, kinds in ASPECTS.items()}

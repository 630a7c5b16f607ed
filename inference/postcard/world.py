"""What there is in the small world that the model knows."""

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from enum import StrEnum
from random import Random
from typing import TypeAlias, TypeVar


class Sky(StrEnum):
    """A time of day, or the weather."""

    DAY = "day"
    SUNSET = "sunset"
    DAWN = "dawn"
    NIGHT = "night"
    STORM = "storm"


class Ground(StrEnum):
    """What the land is like."""

    BEACH = "beach"
    SEA = "sea"
    HILLS = "hills"
    MOUNTAINS = "mountains"
    DESERT = "desert"
    FIELD = "field"
    SNOW = "snow"
    FOREST = "forest"
    CITY = "city"


class Subject(StrEnum):
    """What stands, floats or flies there."""

    CASTLE = "castle"
    HOUSE = "house"
    TREE = "tree"
    BOAT = "boat"
    LIGHTHOUSE = "lighthouse"
    BRIDGE = "bridge"
    WINDMILL = "windmill"
    BALLOON = "balloon"
    CHURCH = "church"
    TENT = "tent"


class Shape(StrEnum):
    """A plain figure."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    HEART = "heart"
    DIAMOND = "diamond"


class Colour(StrEnum):
    """A colour with a name."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"
    WHITE = "white"
    BLACK = "black"


@dataclass(frozen=True, kw_only=True, slots=True)
class Landscape:
    """A view, with or without something in it."""

    sky: Sky
    ground: Ground
    subject: Subject | None
    #: Of the subject; none for those that have one of their own, such as a tree.
    colour: Colour | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A plain shape on a plain background."""

    shape: Shape
    colour: Colour
    background: Colour


Scene: TypeAlias = Landscape | Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Idea:
    """A scene, and which of its attributes its caption speaks of."""

    scene: Scene
    said: frozenset[str]


#: What the sky is like where nobody says it.
USUAL_SKIES: Mapping[Sky, float] = {Sky.DAY: 0.4, Sky.SUNSET: 0.2, Sky.DAWN: 0.15, Sky.NIGHT: 0.15, Sky.STORM: 0.1}

#: Where a subject is at home, if nobody says where it is.
HOMES: Mapping[Subject, Sequence[Ground]] = {
    Subject.CASTLE: (Ground.HILLS, Ground.HILLS, Ground.MOUNTAINS, Ground.FOREST),
    Subject.HOUSE: (Ground.HILLS, Ground.FIELD, Ground.FOREST),
    Subject.TREE: (Ground.HILLS, Ground.FIELD),
    Subject.BOAT: (Ground.SEA,),
    Subject.LIGHTHOUSE: (Ground.BEACH, Ground.SEA),
    Subject.BRIDGE: (Ground.HILLS, Ground.CITY, Ground.SEA),
    Subject.WINDMILL: (Ground.FIELD, Ground.FIELD, Ground.HILLS),
    Subject.BALLOON: (Ground.HILLS, Ground.FIELD, Ground.MOUNTAINS, Ground.DESERT),
    Subject.CHURCH: (Ground.HILLS, Ground.CITY, Ground.FIELD),
    Subject.TENT: (Ground.FOREST, Ground.MOUNTAINS, Ground.FIELD),
}

#: The colours a subject has where nobody says one. What is not here has no colour that could be asked for.
USUAL_COLOURS: Mapping[Subject, Sequence[Colour]] = {
    Subject.CASTLE: (Colour.WHITE, Colour.WHITE, Colour.PINK),
    Subject.HOUSE: (Colour.WHITE, Colour.YELLOW, Colour.RED, Colour.BLUE),
    Subject.BOAT: (Colour.RED, Colour.BLUE, Colour.WHITE),
    Subject.LIGHTHOUSE: (Colour.RED, Colour.RED, Colour.BLUE),
    Subject.BRIDGE: (Colour.RED, Colour.WHITE, Colour.BLACK),
    Subject.WINDMILL: (Colour.WHITE, Colour.RED),
    Subject.BALLOON: tuple(Colour),
    Subject.CHURCH: (Colour.WHITE, Colour.WHITE, Colour.YELLOW),
    Subject.TENT: (Colour.ORANGE, Colour.GREEN, Colour.BLUE, Colour.RED),
}

#: How many of all ideas are figures, and how often each attribute of a landscape is spoken of.
FIGURES = 0.15
SAID = {"subject": 0.85, "colour": 0.6, "ground": 0.8, "sky": 0.75}
BACKGROUND_SAID = 0.85

#: One in so many combinations is kept for the evaluation.
HELD_OUT_EVERY = 10

Kind = TypeVar("Kind")


def imagine(random: Random) -> Idea:
    """Think of a scene to learn from, which is of no combination that is held out.

    What is said is chosen evenly, so that rare things are learnt as well as common ones; what is not said is as one
    would expect.
    """
    while True:
        idea = _figure(random) if random.random() < FIGURES else _landscape(random)
        if not is_held_out(idea.scene):
            return idea


def imagine_held_out(random: Random) -> Idea:
    """Think of a scene of a combination that is held out, with all of it said.

    Colours and shapes are chosen evenly; subjects and grounds as evenly as can be, since more is held out of some.
    """
    scene: Scene
    if random.random() < FIGURES:
        scene = random.choice(_held_out_figures(_any(random, Shape)))
    else:
        landscapes, weights = _held_out_landscapes()
        (landscape,) = random.choices(landscapes, weights)
        scene = replace(landscape, colour=_colour(random, landscape.subject, said=True))
    return Idea(scene=scene, said=_sayable(scene))


def imagine_any(random: Random) -> Idea:
    """Think of a scene for the judge to learn from: as often as not of what is held out, which it is to judge."""
    return random.choice((imagine, imagine_held_out))(random)


def is_held_out(scene: Scene) -> bool:
    """Whether training never sees this combination of sky, ground and subject, or of a shape and its colours."""
    match scene:
        case Landscape(subject=None):
            return False
        case Landscape():
            combination = f"{scene.sky} {scene.ground} {scene.subject}"
        case Figure():
            if scene.colour == scene.background:
                return False
            combination = " ".join(astuple(scene))
    return hashlib.sha256(combination.encode()).digest()[0] % HELD_OUT_EVERY == 0


@functools.cache
def _held_out_landscapes() -> tuple[Sequence[Landscape], Sequence[float]]:
    """Make all landscapes that training never sees, without colours, and say how often each is to be asked for."""
    made = itertools.starmap(_landscape_of, itertools.product(Sky, Ground, Subject))
    landscapes = [landscape for landscape in made if is_held_out(landscape)]
    subjects = Counter(landscape.subject for landscape in landscapes)
    grounds = Counter(landscape.ground for landscape in landscapes)
    return landscapes, [1 / subjects[one.subject] + 1 / grounds[one.ground] for one in landscapes]


@functools.cache
def _held_out_figures(shape: Shape) -> Sequence[Figure]:
    """Make all figures of a shape that training never sees."""
    pairs = itertools.permutations(Colour, 2)
    figures = [Figure(shape=shape, colour=colour, background=background) for colour, background in pairs]
    return [figure for figure in figures if is_held_out(figure)]


def _landscape_of(sky: Sky, ground: Ground, subject: Subject) -> Landscape:
    return Landscape(sky=sky, ground=ground, subject=subject, colour=None)


def _figure(random: Random) -> Idea:
    colour, background = random.sample(list(Colour), 2)
    said = {"shape", "colour"} | ({"background"} if random.random() < BACKGROUND_SAID else set())
    figure = Figure(shape=_any(random, Shape), colour=colour, background=background)
    return Idea(scene=figure, said=frozenset(said))


def _landscape(random: Random) -> Idea:
    said = {name for name, share in SAID.items() if random.random() < share}
    if not said & {"subject", "ground", "sky"}:
        said.add("ground")
    subject = _any(random, Subject) if "subject" in said else None
    if subject not in USUAL_COLOURS:
        said.discard("colour")
    if "sky" in said:
        sky = _any(random, Sky)
    else:
        (sky,) = random.choices(list(USUAL_SKIES), list(USUAL_SKIES.values()))
    ground = _any(random, Ground) if "ground" in said or subject is None else random.choice(HOMES[subject])
    scene = Landscape(sky=sky, ground=ground, subject=subject, colour=_colour(random, subject, said="colour" in said))
    return Idea(scene=scene, said=frozenset(said))


def _colour(random: Random, subject: Subject | None, *, said: bool) -> Colour | None:
    if subject is None or subject not in USUAL_COLOURS:
        return None
    return _any(random, Colour) if said else random.choice(USUAL_COLOURS[subject])


def _sayable(scene: Scene) -> frozenset[str]:
    return frozenset(field.name for field in fields(scene) if getattr(scene, field.name) is not None)


def _any(random: Random, kind: type[Kind]) -> Kind:
    return random.choice(list(kind))  # type: ignore[call-overload, no-any-return]

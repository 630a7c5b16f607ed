"""What is thought of is what training shall see, and what it shall not see is kept from it."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest

from inference.postcard.world import (
    FIGURES,
    USUAL_COLOURS,
    Colour,
    Figure,
    Ground,
    Idea,
    Landscape,
    Shape,
    Sky,
    Subject,
    imagine,
    imagine_any,
    imagine_held_out,
    is_held_out,
)

COUNT = 3_000


@pytest.fixture(scope="module")
def ideas() -> list[Idea]:
    return [imagine(Random(number)) for number in range(COUNT)]


def test_the_same_seed_thinks_of_the_same(ideas: list[Idea]) -> None:
    assert [imagine(Random(number)) for number in range(20)] == ideas[:20]


def test_everything_is_thought_of(ideas: list[Idea]) -> None:
    seen = Counter(value for idea in ideas for value in vars_of(idea).values())

    assert {*Sky, *Ground, *Subject, *Shape, *Colour} <= set(seen)
    assert min(seen[subject] for subject in Subject) > COUNT / 50


def test_training_and_evaluation_share_no_combination(ideas: list[Idea]) -> None:
    assert not any(is_held_out(idea.scene) for idea in ideas)
    assert all(is_held_out(imagine_held_out(Random(number)).scene) for number in range(COUNT))


def test_the_evaluation_asks_for_everything_about_evenly() -> None:
    scenes = [imagine_held_out(Random(number)).scene for number in range(COUNT)]
    landscapes = [scene for scene in scenes if isinstance(scene, Landscape)]
    figures = [scene for scene in scenes if isinstance(scene, Figure)]
    coloured = [scene.colour for scene in landscapes if scene.colour is not None]

    assert len(figures) == pytest.approx(FIGURES * COUNT, rel=0.2)
    for kinds, seen, least in (
        (Colour, coloured, 0.7),
        (Shape, [scene.shape for scene in figures], 0.6),
        # More is held out of some than of others.
        (Subject, [scene.subject for scene in landscapes], 0.35),
        (Ground, [scene.ground for scene in landscapes], 0.35),
        (Sky, [scene.sky for scene in landscapes], 0.35),
    ):
        counts = Counter(seen)
        assert min(counts[kind] for kind in kinds) > least * max(counts.values())


def test_the_judge_learns_from_both() -> None:
    held_out = [is_held_out(imagine_any(Random(number)).scene) for number in range(COUNT)]

    assert sum(held_out) == pytest.approx(COUNT / 2, rel=0.1)


def test_about_a_tenth_is_held_out_and_each_thing_is_seen_elsewhere() -> None:
    landscapes = [
        Landscape(sky=sky, ground=ground, subject=subject, colour=None)
        for sky, ground, subject in product(Sky, Ground, Subject)
    ]
    kept = [scene for scene in landscapes if is_held_out(scene)]

    assert 0.05 < len(kept) / len(landscapes) < 0.15
    for name, kinds in {"sky": Sky, "ground": Ground, "subject": Subject}.items():
        assert {getattr(scene, name) for scene in landscapes if not is_held_out(scene)} == set(kinds)


def test_colour_does_not_decide_what_is_held_out() -> None:
    scene = next(s for s in (imagine_held_out(Random(n)).scene for n in range(99)) if isinstance(s, Landscape))

    assert all(is_held_out(replace(scene, colour=colour)) for colour in Colour)


def test_what_is_held_out_is_said_in_full() -> None:
    for number in range(100):
        idea = imagine_held_out(Random(number))
        assert idea.said == {name for name, value in vars_of(idea).items() if value is not None}


def test_only_what_is_there_is_said(ideas: list[Idea]) -> None:
    for idea in ideas:
        assert idea.said
        assert all(vars_of(idea)[name] is not None for name in idea.said)


def test_a_tree_has_no_colour_to_ask_for(ideas: list[Idea]) -> None:
    for scene in (idea.scene for idea in ideas):
        if isinstance(scene, Landscape):
            assert (scene.colour is not None) == (scene.subject in USUAL_COLOURS)


def test_a_shape_is_seen_on_its_background(ideas: list[Idea]) -> None:
    figures = [idea.scene for idea in ideas if isinstance(idea.scene, Figure)]

    assert figures
    assert all(figure.colour != figure.background for figure in figures)


def vars_of(idea: Idea) -> dict[str, object]:
    return {name: getattr(idea.scene, name) for name in idea.scene.__slots__}

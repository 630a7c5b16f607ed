"""Captions say what they shall and nothing else, and those of the evaluation share no wording with training."""

import re
from collections.abc import Iterable
from random import Random

import pytest

from inference.postcard import captions, vocabulary
from inference.postcard.captions import describe
from inference.postcard.world import Colour, Figure, Ground, Idea, Landscape, Shape, Sky, Subject, imagine

COUNT = 1_500

CASTLE = Landscape(sky=Sky.SUNSET, ground=Ground.HILLS, subject=Subject.CASTLE, colour=Colour.RED)
CIRCLE = Figure(shape=Shape.CIRCLE, colour=Colour.RED, background=Colour.BLUE)


def words(caption: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", caption.lower()))


def says_one_of(caption: str, phrases: Iterable[str]) -> bool:
    return any(re.search(rf"\b{re.escape(phrase)}\b", caption.lower()) for phrase in phrases)


def captions_of(idea: Idea, *, held_out: bool = False) -> list[str]:
    return [describe(idea, Random(number), held_out=held_out) for number in range(200)]


@pytest.mark.parametrize("held_out", [False, True])
def test_all_that_is_said_can_be_read(held_out: bool) -> None:
    idea = Idea(scene=CASTLE, said=frozenset({"sky", "ground", "subject", "colour"}))

    for caption in captions_of(idea, held_out=held_out):
        assert says_one_of(caption, vocabulary.SUBJECTS[Subject.CASTLE]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.RED]), caption
        assert says_one_of(caption, [ground for ground, _ in vocabulary.GROUNDS[Ground.HILLS]]) or says_one_of(
            caption, [ground.split()[-1] for ground, _ in vocabulary.GROUNDS[Ground.HILLS]]
        ), caption
        assert says_one_of(caption, [phrase for pair in vocabulary.SKIES[Sky.SUNSET] for phrase in pair]), caption


@pytest.mark.parametrize("held_out", [False, True])
def test_a_figure_and_its_background(held_out: bool) -> None:
    idea = Idea(scene=CIRCLE, said=frozenset({"shape", "colour", "background"}))

    for caption in captions_of(idea, held_out=held_out):
        assert says_one_of(caption, vocabulary.SHAPES[Shape.CIRCLE]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.RED]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.BLUE]), caption


def test_what_is_not_said_cannot_be_read() -> None:
    idea = Idea(scene=CASTLE, said=frozenset({"ground"}))

    for caption in captions_of(idea):
        assert not says_one_of(caption, vocabulary.SUBJECTS[Subject.CASTLE]), caption
        assert not says_one_of(caption, [phrase for pair in vocabulary.SKIES[Sky.SUNSET] for phrase in pair]), caption


def test_the_same_seed_says_the_same_and_others_say_it_otherwise() -> None:
    idea = Idea(scene=CASTLE, said=frozenset({"sky", "ground", "subject", "colour"}))

    assert captions_of(idea) == captions_of(idea)
    assert len(set(captions_of(idea))) > 190


def test_filler_of_the_evaluation_is_never_heard_in_training() -> None:
    heard = set[str]()
    for number in range(COUNT):
        random = Random(number)
        heard |= words(describe(imagine(random, held_out=False), random, held_out=False))

    assert not heard & {*vocabulary.HELD_OUT_ADJECTIVES, *vocabulary.HELD_OUT_NAMES}
    assert not set(vocabulary.STYLES) & set(vocabulary.HELD_OUT_STYLES)
    assert not set(vocabulary.TAGS) & set(vocabulary.HELD_OUT_TAGS)
    assert not set(captions.LANDSCAPES) & set(captions.LANDSCAPES_HELD_OUT)
    assert not set(captions.FIGURES) & set(captions.FIGURES_HELD_OUT)


def test_filler_means_nothing() -> None:
    meaning = {
        word
        for phrases in (*vocabulary.SUBJECTS.values(), *vocabulary.SHAPES.values(), *vocabulary.COLOURS.values())
        for phrase in phrases
        for word in words(phrase)
    }
    filler = words(
        " ".join((*vocabulary.ADJECTIVES, *vocabulary.HELD_OUT_ADJECTIVES, *vocabulary.STYLES, *vocabulary.TAGS))
    )

    assert filler & meaning <= {"a", "in", "the", "light"}


def test_nothing_is_left_to_fill_in() -> None:
    for number in range(COUNT):
        random, held_out = Random(number), number % 2 == 0
        caption = describe(imagine(random, held_out=held_out), random, held_out=held_out)
        assert not set(caption) & set("{}"), caption
        assert "  " not in caption, caption
        assert caption == caption.strip()

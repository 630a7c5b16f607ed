"""Captions say what they shall and nothing else, and those of the evaluation share no wording with training."""

import re
from collections.abc import Iterable
from random import Random

import pytest

from inference.postcard import captions, vocabulary
from inference.postcard.captions import describe
from inference.postcard.world import (
    Colour,
    Figure,
    Ground,
    Idea,
    Landscape,
    Shape,
    Sky,
    Subject,
    imagine,
    imagine_held_out,
)

COUNT = 1_500


@pytest.fixture
def nothing_strewn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no unknown words between those that belong together."""
    monkeypatch.setattr(captions, "STREWN", 0.0)


CASTLE = Landscape(sky=Sky.SUNSET, ground=Ground.HILLS, subject=Subject.CASTLE, colour=Colour.PURPLE)
CIRCLE = Figure(shape=Shape.CIRCLE, colour=Colour.RED, background=Colour.BLUE)


def words(caption: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", caption.lower()))


def says_one_of(caption: str, phrases: Iterable[str]) -> bool:
    return any(re.search(rf"\b{re.escape(phrase)}\b", caption.lower()) for phrase in phrases)


def captions_of(idea: Idea, *, held_out: bool = False) -> list[str]:
    return [describe(idea, Random(number), held_out=held_out) for number in range(200)]


@pytest.mark.usefixtures("nothing_strewn")
@pytest.mark.parametrize("held_out", [False, True])
def test_all_that_is_said_can_be_read(held_out: bool) -> None:
    idea = Idea(scene=CASTLE, said=frozenset({"sky", "ground", "subject", "colour"}))

    for caption in captions_of(idea, held_out=held_out):
        assert says_one_of(caption, vocabulary.SUBJECTS[Subject.CASTLE]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.PURPLE]), caption
        assert says_one_of(caption, [ground for ground, _ in vocabulary.GROUNDS[Ground.HILLS]]), caption
        assert says_one_of(caption, [phrase for pair in vocabulary.SKIES[Sky.SUNSET] for phrase in pair]), caption


@pytest.mark.usefixtures("nothing_strewn")
@pytest.mark.parametrize("held_out", [False, True])
def test_a_figure_and_its_background(held_out: bool) -> None:
    idea = Idea(scene=CIRCLE, said=frozenset({"shape", "colour", "background"}))

    for caption in captions_of(idea, held_out=held_out):
        assert says_one_of(caption, vocabulary.SHAPES[Shape.CIRCLE]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.RED]), caption
        assert says_one_of(caption, vocabulary.COLOURS[Colour.BLUE]), caption


@pytest.mark.parametrize("said", [{"ground"}, {"sky"}, {"subject"}, {"subject", "ground"}])
def test_what_is_not_said_cannot_be_read(said: set[str]) -> None:
    phrases = {
        "subject": vocabulary.SUBJECTS[Subject.CASTLE],
        "colour": vocabulary.COLOURS[Colour.PURPLE],
        "ground": [ground for ground, _ in vocabulary.GROUNDS[Ground.HILLS]],
        "sky": ["sunset", "dusk", "evening", "sundown", "golden hour", "setting sun"],
    }

    for caption in captions_of(Idea(scene=CASTLE, said=frozenset(said))):
        for name in phrases.keys() - said:
            assert not says_one_of(caption, phrases[name]), caption


def test_the_same_seed_says_the_same_and_others_say_it_otherwise() -> None:
    idea = Idea(scene=CASTLE, said=frozenset({"sky", "ground", "subject", "colour"}))

    assert captions_of(idea) == captions_of(idea)
    assert len(set(captions_of(idea))) > 190


def test_filler_of_the_evaluation_is_never_heard_in_training() -> None:
    heard = set[str]()
    for number in range(COUNT):
        random = Random(number)
        heard |= words(describe(imagine(random), random, held_out=False))

    assert not heard & {*vocabulary.HELD_OUT_ADJECTIVES, *vocabulary.HELD_OUT_NAMES}
    assert not set(vocabulary.STYLES) & set(vocabulary.HELD_OUT_STYLES)
    assert not set(vocabulary.TAGS) & set(vocabulary.HELD_OUT_TAGS)
    assert not set(captions.LANDSCAPES) & set(captions.LANDSCAPES_HELD_OUT)
    assert not set(captions.FIGURES) & set(captions.FIGURES_HELD_OUT)


def test_every_prompt_of_the_evaluation_has_filler_that_training_never_hears() -> None:
    for number in range(COUNT):
        random = Random(number)
        caption = describe(imagine_held_out(random), random, held_out=True)
        assert says_one_of(caption, vocabulary.HELD_OUT_TAGS), caption


def test_filler_means_nothing() -> None:
    meaning = words(
        " ".join(
            phrase
            for phrases in (*vocabulary.SUBJECTS.values(), *vocabulary.SHAPES.values(), *vocabulary.COLOURS.values())
            for phrase in phrases
        )
    )
    skies_and_grounds = [pair for pairs in (*vocabulary.SKIES.values(), *vocabulary.GROUNDS.values()) for pair in pairs]
    meaning |= words(" ".join(thing for thing, _ in skies_and_grounds))
    filler = words(
        " ".join(
            (
                *vocabulary.ADJECTIVES, *vocabulary.STYLES, *vocabulary.TAGS, *vocabulary.HELD_OUT_ADJECTIVES,
                *vocabulary.HELD_OUT_STYLES, *vocabulary.HELD_OUT_TAGS, *vocabulary.HELD_OUT_NAMES,
            )
        )
    )  # fmt: skip

    # "Big city" and "tall buildings" are a city; big and tall alone are anything.
    assert filler & meaning == {"big", "tall"}


def test_made_up_words_are_many_and_mean_nothing() -> None:
    made_up = {vocabulary.made_up(Random(number)) for number in range(10_000)}

    assert len(made_up) > 9_000
    assert not made_up & vocabulary.WORDS
    assert all(word.isalpha() and word.islower() for word in made_up)


def test_a_word_that_means_something_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    first = vocabulary.made_up(Random(1))
    monkeypatch.setattr(vocabulary, "WORDS", {first})

    assert vocabulary.made_up(Random(1)) != first


def test_what_no_wording_of_the_evaluation_says_is_refused() -> None:
    with pytest.raises(ValueError, match="no wording says just subject"):
        describe(Idea(scene=CASTLE, said=frozenset({"subject"})), Random(1), held_out=True)


@pytest.mark.parametrize(
    ("template", "is_thing"),
    [("{subject} {place}", True), ("the {bare_ground}", True), ("{place}, {subject}", False), ("it is {sky}", False)],
)
def test_styles_go_before_things(template: str, is_thing: bool) -> None:
    assert captions._begins_with_thing(template) == is_thing


def test_unknown_words_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    idea = Idea(scene=CIRCLE, said=frozenset({"shape", "colour", "background"}))
    monkeypatch.setattr(vocabulary, "made_up", lambda _random: "schnozzle")
    unknown = [[word == "schnozzle" for word in caption.lower().split()] for caption in captions_of(idea)]

    assert any(one[0] for one in unknown)
    assert any(one[-1] for one in unknown)
    assert 0.3 < sum(map(any, unknown)) / len(unknown) < 0.8
    # Those of the evaluation are others.
    assert not any("schnozzle" in caption.lower() for caption in captions_of(idea, held_out=True))


@pytest.mark.usefixtures("nothing_strewn")
def test_articles_fit() -> None:
    for number in range(COUNT):
        random = Random(number)
        caption = describe(imagine(random), random, held_out=False)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption.lower()), caption


def test_nothing_is_left_to_fill_in() -> None:
    for number in range(COUNT):
        random, held_out = Random(number), number % 2 == 0
        idea = imagine_held_out(random) if held_out else imagine(random)
        caption = describe(idea, random, held_out=held_out)
        assert not set(caption) & set("{}"), caption
        assert "  " not in caption, caption
        assert caption == caption.strip()

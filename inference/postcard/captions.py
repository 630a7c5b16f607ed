"""Puts scenes into words, each time differently."""

import re
import string
from collections.abc import Mapping, Sequence
from random import Random

from inference.postcard import vocabulary
from inference.postcard.world import Colour, Figure, Idea, Landscape

#: How often adjectives, styles, tags and names without a meaning come in, of those that may.
ADJECTIVE, STYLE, TAG, NAME = 0.35, 0.35, 0.3, 0.25
#: So many adjectives are words that nobody knows, and into so many captions some more are strewn, anywhere: what is not
#: known is to be ignored, wherever it stands.
UNKNOWN_ADJECTIVE, STREWN, STREWN_AT_MOST = 0.5, 0.4, 4
#: How often a caption is a row of tags, begins with a capital, or ends in a full stop.
TAGS_ONLY, CAPITAL, FULL_STOP = 0.15, 0.3, 0.2

#: In these, a subject comes with its article; "place" and "time" are "on a hill" and "at dawn".
LANDSCAPES = (
    "{subject} {place} {time}", "{subject} {time} {place}", "{time}, {subject} {place}", "{place}, {subject} {time}",
    "{subject}, {place}, {time}", "{subject} standing {place} {time}", "{sky} over {ground} with {subject}",
    "{ground} {time} with {subject}", "{subject} and {ground}, {time}", "{subject} that is {place}, {time}",
    "{subject} {place} and {sky}", "there is {subject} {place} {time}", "{sky}: {subject} {place}",
    "{subject} {place}", "{place} {subject}", "{subject} and {ground}", "{ground} with {subject}",
    "{subject} standing {place}", "{subject} that is {place}", "{place} there is {subject}",
    "{subject} {time}", "{time} {subject}", "{subject} and {sky}", "{sky} and {subject}", "{sky} behind {subject}",
    "{subject}, {time}", "{time}, {subject}", "{sky} with {subject}",
    "{sky} over {ground}", "{sky} {place}", "{ground} {time}", "{ground}, {time}", "{time} {place}",
    "{sky} and {ground}",
    "{ground} under {sky}", "{place} {time}", "{sky} above {ground}",
    "{subject}", "only {subject}", "{subject} alone", "one {bare_subject}", "the {bare_subject}",
    "{ground}", "{place}", "the {bare_ground}", "only {ground}",
    "{sky}", "{time}", "the {bare_sky}", "it is {sky}",
)  # fmt: skip
LANDSCAPES_HELD_OUT = (
    "{time} one finds {subject} {place}", "{subject}, built {place}, seen {time}", "what {sky}, and {place} {subject}",
    "somewhere {place} waits {subject} {time}", "{ground}, {subject}, all {time}", "{place} and {time}: {subject}",
)  # fmt: skip
FIGURES = (
    "{shape} on {background} background", "{shape} on {bare_background}", "{shape} in front of {background} background",
    "{background} background with {shape}", "{shape}, {bare_background} background", "{shape} over {bare_background}",
    "on {background} background, {shape}", "{background} picture with {shape}", "{background} page: {shape}",
    "{background} wall and {shape}", "on {background} sheet, {shape}", "{background} background, {shape}",
    "{bare_background} with {shape}", "{bare_background}, {shape}", "{background} background and {shape}",
    "{shape} before {bare_background}", "{shape} amid {bare_background}", "{shape} by {bare_background}",
    "{shape} where all else is {bare_background}", "{shape}, the rest {bare_background}",
    "{shape} surrounded by {bare_background}", "{shape} {bare_background}",
    "{shape}", "just {shape}", "{shape} in the middle",
)  # fmt: skip
FIGURES_HELD_OUT = (
    "{shape} upon {background} backdrop", "nothing but {shape} against {bare_background}",
    "{background} card, and on it {shape}",
)  # fmt: skip

_WITHOUT_ARTICLE = frozenset(
    "snow grass winter woodland farmland lightning rain thunder daylight daytime dusk dawn moonlight midnight "
    "weather land water light wheat night sundown daybreak sahara arctic seaside countryside sun".split()
)


def describe(idea: Idea, random: Random, *, held_out: bool) -> str:
    """Describe an idea, in words of training, or in wordings and with filler that training never uses.

    Raises:
        ValueError: no wording of the evaluation says just this; it asks for all of a scene, and a subject in it.
    """
    filler = Filler(random, held_out=held_out)
    match idea.scene:
        case Figure():
            parts = _parts_of_figure(idea.scene, idea.said, random, filler)
            template = _choose(FIGURES_HELD_OUT if held_out else FIGURES, parts, random)
        case Landscape():
            parts = _parts_of_landscape(idea.scene, idea.said, random, filler)
            if not held_out and random.random() < TAGS_ONLY:
                tags = [f"{{{name}}}" for name in parts if name.startswith("bare_")]
                template = ", ".join(random.sample(tags, len(tags)))
            else:
                template = _choose(LANDSCAPES_HELD_OUT if held_out else LANDSCAPES, parts, random)
    caption = filler.around(template.format_map(parts), is_thing=_begins_with_thing(template))
    return _written(caption if held_out else filler.strewn_into(caption), random)


class Filler:
    """Words without a meaning."""

    def __init__(self, random: Random, *, held_out: bool) -> None:
        self._random = random
        self._held_out = held_out
        self._adjectives = vocabulary.HELD_OUT_ADJECTIVES if held_out else vocabulary.ADJECTIVES
        self._styles = vocabulary.HELD_OUT_STYLES if held_out else vocabulary.STYLES
        self._tags = vocabulary.HELD_OUT_TAGS if held_out else vocabulary.TAGS

    def adjectives(self, *, at_most: int) -> list[str]:
        """Give some adjectives, often none; in training, words that nobody knows among them."""
        adjectives = self._some(self._adjectives, ADJECTIVE, at_most=at_most)
        return [self._maybe_unknown(adjective) for adjective in adjectives]

    def names(self) -> list[str]:
        """Give the name of a place, or none."""
        if self._random.random() >= NAME:
            return []
        return [self._random.choice(vocabulary.HELD_OUT_NAMES) if self._held_out else vocabulary.made_up(self._random)]

    def strewn_into(self, caption: str) -> str:
        """Put words that nobody knows somewhere into a caption, or none."""
        random, words = self._random, caption.split(" ")
        if random.random() < STREWN:
            for _ in range(random.randint(1, STREWN_AT_MOST)):
                words.insert(random.randint(0, len(words)), vocabulary.made_up(random))
        return " ".join(words)

    def around(self, caption: str, *, is_thing: bool) -> str:
        """Put a caption between what does not matter: a style before a thing only; held out, always something."""
        random = self._random
        for name in self.names():
            caption = f"{caption} {random.choice(('in', 'near', 'of', 'from'))} {name}"
        if is_thing and random.random() < STYLE:
            caption = f"{random.choice(self._styles)} {caption}"
        tags = self._some(self._tags, TAG, at_most=2)
        if self._held_out and not tags:
            tags = [random.choice(self._tags)]
        return ", ".join([caption, *tags])

    def _maybe_unknown(self, adjective: str) -> str:
        is_unknown = not self._held_out and self._random.random() < UNKNOWN_ADJECTIVE
        return vocabulary.made_up(self._random) if is_unknown else adjective

    def _some(self, words: Sequence[str], share: float, *, at_most: int) -> list[str]:
        return self._random.sample(words, sum(self._random.random() < share for _ in range(at_most)))


def _parts_of_landscape(scene: Landscape, said: frozenset[str], random: Random, filler: Filler) -> dict[str, str]:
    parts: dict[str, str] = {}
    if scene.subject is not None and "subject" in said:
        words = filler.adjectives(at_most=2)
        if scene.colour is not None and "colour" in said:
            words.insert(random.randint(0, len(words)), _colour(scene.colour, random))
        parts |= _with_and_without_article("subject", [*words, random.choice(vocabulary.SUBJECTS[scene.subject])])
    if "ground" in said:
        ground, where = random.choice(vocabulary.GROUNDS[scene.ground])
        words = [*filler.adjectives(at_most=1), *filler.names(), ground]
        parts |= _with_and_without_article("ground", words)
        parts["place"] = _with_article_of(" ".join([where, *words]).strip())
    if "sky" in said:
        sky, parts["time"] = random.choice(vocabulary.SKIES[scene.sky])
        parts |= _with_and_without_article("sky", [*filler.adjectives(at_most=1), sky])
    return parts


def _parts_of_figure(figure: Figure, said: frozenset[str], random: Random, filler: Filler) -> dict[str, str]:
    words = [
        *filler.adjectives(at_most=1),
        _colour(figure.colour, random),
        random.choice(vocabulary.SHAPES[figure.shape]),
    ]
    parts = _with_and_without_article("shape", words)
    if "background" in said:
        parts |= _with_and_without_article("background", [_colour(figure.background, random)])
    return parts


def _colour(colour: Colour, random: Random) -> str:
    return random.choice(vocabulary.COLOURS[colour])


def _with_and_without_article(name: str, words: Sequence[str]) -> dict[str, str]:
    bare = " ".join(words)
    last = bare.split()[-1]
    plural = last.endswith("s") and not last.endswith("ss")
    article = "" if plural or last in _WITHOUT_ARTICLE else "an " if bare[0] in "aeiou" else "a "
    return {name: article + bare, f"bare_{name}": bare}


def _with_article_of(place: str) -> str:
    """Put "an" before vowels: where one is was written with the noun, and other words came between."""
    return re.sub(r"\ba (?=[aeiou])", "an ", place)


def _choose(templates: Sequence[str], parts: Mapping[str, str], random: Random) -> str:
    """Choose one of the templates that say all the parts."""
    given = {_meaning(name) for name in parts}
    suitable = [template for template in templates if _meanings(template) == given]
    if not suitable:
        raise ValueError(f"no wording says just {', '.join(sorted(given))}")
    return random.choice(suitable)


def _begins_with_thing(template: str) -> bool:
    """Whether it begins with something that one can have a picture of, and not with where or when."""
    before, name, *_ = next(iter(string.Formatter().parse(template)))
    return name not in {"place", "time"} and before in {"", "the ", "one ", "only "}


def _meanings(template: str) -> set[str]:
    return {_meaning(name) for _, name, _, _ in string.Formatter().parse(template) if name}


def _meaning(name: str) -> str:
    return {"place": "ground", "time": "sky"}.get(name, name.removeprefix("bare_"))


def _written(caption: str, random: Random) -> str:
    """Write it as people do: with a capital or not, with a full stop or not."""
    if random.random() < CAPITAL:
        caption = caption[0].upper() + caption[1:]
    return caption + ("." if random.random() < FULL_STOP else "")

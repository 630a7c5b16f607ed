"""What is painted shows what it shall, as far as numbers can say."""

from itertools import product
from random import Random

import numpy as np
import pytest

from inference.postcard.painting import SIZE_PIXELS, paint
from inference.postcard.painting.canvas import Canvas
from inference.postcard.painting.colours import PAINTS
from inference.postcard.world import Colour, Figure, Ground, Landscape, Shape, Sky, Subject


def mean_colour(picture: np.ndarray, *, top: float, bottom: float) -> np.ndarray:
    rows = picture[round(top * SIZE_PIXELS) : round(bottom * SIZE_PIXELS)]
    mean: np.ndarray = rows.reshape(-1, 3).mean(axis=0)
    return mean


def landscape(
    *, sky: Sky = Sky.DAY, ground: Ground = Ground.HILLS, subject: Subject | None = None, colour: Colour | None = None
) -> np.ndarray:
    return paint(Landscape(sky=sky, ground=ground, subject=subject, colour=colour), Random(1))


@pytest.mark.parametrize("ground", Ground)
def test_everything_can_be_painted(ground: Ground) -> None:
    for sky, subject in product(Sky, Subject):
        picture = paint(Landscape(sky=sky, ground=ground, subject=subject, colour=Colour.RED), Random(3))
        assert picture.shape == (SIZE_PIXELS, SIZE_PIXELS, 3)
        assert picture.dtype == np.uint8


def test_the_same_seed_paints_the_same_and_another_does_not() -> None:
    scene = Landscape(sky=Sky.NIGHT, ground=Ground.SEA, subject=Subject.BOAT, colour=Colour.RED)

    assert np.array_equal(paint(scene, Random(1)), paint(scene, Random(1)))
    assert not np.array_equal(paint(scene, Random(1)), paint(scene, Random(2)))


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize(("colour", "background"), [(Colour.RED, Colour.BLUE), (Colour.WHITE, Colour.BLACK)])
def test_a_figure_has_its_colours(shape: Shape, colour: Colour, background: Colour) -> None:
    picture = paint(Figure(shape=shape, colour=colour, background=background), Random(5)) / 255

    middle, corner = picture[SIZE_PIXELS // 2, SIZE_PIXELS // 2], picture[0, 0]
    assert middle == pytest.approx(np.array(PAINTS[colour]), abs=0.05)
    assert corner == pytest.approx(np.array(PAINTS[background]), abs=0.05)


def test_skies_differ_in_light() -> None:
    light = {sky: landscape(sky=sky).mean() for sky in Sky}

    assert light[Sky.DAY] > light[Sky.SUNSET] > light[Sky.NIGHT]
    assert light[Sky.DAY] > light[Sky.STORM] > light[Sky.NIGHT]
    red, _, blue = mean_colour(landscape(sky=Sky.SUNSET), top=0.3, bottom=0.55)
    assert red > 2 * blue


@pytest.mark.parametrize(
    ("ground", "strongest"), [(Ground.SEA, 2), (Ground.HILLS, 1), (Ground.DESERT, 0), (Ground.FOREST, 1)]
)
def test_grounds_have_the_colour_of_what_they_are(ground: Ground, strongest: int) -> None:
    assert int(mean_colour(landscape(ground=ground), top=0.85, bottom=1.0).argmax()) == strongest


@pytest.mark.parametrize("subject", Subject)
def test_a_subject_is_seen(subject: Subject) -> None:
    there = landscape(subject=subject, colour=Colour.PURPLE).astype(float)
    changed = np.abs(there - landscape()).max(axis=2) > 30

    assert 0.05 < changed.mean() < 0.6


def test_edges_are_smooth() -> None:
    canvas = Canvas(16)
    canvas.polygon([(0.0, 0.0), (1.0, 1.0), (0.0, 1.0)], (1.0, 1.0, 1.0))

    assert len(np.unique(canvas.pixels())) > 2

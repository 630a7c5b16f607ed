"""What stands, floats or flies in a landscape. Each is about half as high as the picture."""

import math
from collections.abc import Callable, Mapping
from random import Random

from inference.postcard.painting.canvas import Canvas, Paint, darker, lighter
from inference.postcard.painting.colours import paint_of
from inference.postcard.world import Colour, Ground, Subject

WOOD: Paint = (0.46, 0.29, 0.16)
TILES: Paint = (0.52, 0.22, 0.16)
SLATE: Paint = (0.30, 0.33, 0.42)
GLASS: Paint = (0.36, 0.52, 0.66)
LAMP: Paint = (1.0, 0.93, 0.55)
CLOTH: Paint = (0.97, 0.96, 0.92)
#: A white lighthouse would have no stripes with white ones between.
ALMOST_WHITE = 0.85
BETWEEN_WHITE: Paint = (0.62, 0.64, 0.68)
LEAVES: Paint = (0.17, 0.50, 0.19)

#: Where most of them stand, and how far that varies.
FOOT, FOOT_SPREAD = 0.87, 0.025


def paint(canvas: Canvas, subject: Subject, colour: Colour | None, random: Random, *, x: float, ground: Ground) -> None:
    """Paint a subject around `x`, in its colour if it has one; on the sea, what does not float gets a rock."""
    coat = paint_of(colour, random) if colour is not None else LEAVES
    foot = FOOT + random.uniform(-FOOT_SPREAD, FOOT_SPREAD)
    if ground is Ground.SEA and subject in ON_ROCKS:
        canvas.disc(x, foot + 0.02, 0.3, (0.42, 0.40, 0.38), flatten=0.22)
        canvas.disc(x - 0.04, foot + 0.01, 0.22, (0.50, 0.48, 0.45), flatten=0.2)
    SUBJECTS[subject](canvas, random, x, foot, coat)


def _castle(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    roof = darker(paint, 0.45)
    canvas.box(x - 0.09, foot - 0.34, x + 0.09, foot, darker(paint, 0.08))
    _battlements(canvas, left=x - 0.09, right=x + 0.09, top=foot - 0.34, paint=darker(paint, 0.08))
    canvas.box(x - 0.2, foot - 0.19, x + 0.2, foot, paint)
    _battlements(canvas, left=x - 0.2, right=x + 0.2, top=foot - 0.19, paint=paint)
    for side in (-1, 1):
        middle = x + 0.21 * side
        canvas.box(middle - 0.06, foot - 0.31, middle + 0.06, foot, darker(paint, 0.14 if side > 0 else 0.0))
        canvas.polygon([(middle - 0.078, foot - 0.31), (middle, foot - 0.46), (middle + 0.078, foot - 0.31)], roof)
        canvas.box(middle - 0.013, foot - 0.24, middle + 0.013, foot - 0.18, (0.14, 0.12, 0.14))
    canvas.box(x - 0.013, foot - 0.29, x + 0.013, foot - 0.23, (0.14, 0.12, 0.14))
    canvas.box(x - 0.045, foot - 0.08, x + 0.045, foot, WOOD)
    canvas.disc(x, foot - 0.08, 0.045, WOOD)
    canvas.line([(x, foot - 0.36), (x, foot - 0.48)], WOOD, width=0.01)
    wind = random.choice((-1, 1))
    canvas.polygon([(x, foot - 0.48), (x + 0.08 * wind, foot - 0.455), (x, foot - 0.43)], (0.85, 0.15, 0.15))


def _battlements(canvas: Canvas, *, left: float, right: float, top: float, paint: Paint) -> None:
    count = max(2, round((right - left) / 0.06))
    width = (right - left) / (2 * count - 1)
    for index in range(count):
        start = left + 2 * index * width
        canvas.box(start, top - 0.028, start + width, top + 0.005, paint)


def _house(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    canvas.box(x + 0.08, foot - 0.40, x + 0.13, foot - 0.26, darker(TILES, 0.15))
    canvas.box(x - 0.19, foot - 0.22, x + 0.19, foot, paint)
    canvas.polygon([(x - 0.24, foot - 0.215), (x, foot - 0.40), (x + 0.24, foot - 0.215)], TILES)
    door = random.choice((-1, 1))
    canvas.box(x + 0.09 * door - 0.035, foot - 0.13, x + 0.09 * door + 0.035, foot, WOOD)
    canvas.box(x - 0.09 * door - 0.05, foot - 0.155, x - 0.09 * door + 0.05, foot - 0.065, CLOTH)
    canvas.box(x - 0.09 * door - 0.038, foot - 0.143, x - 0.09 * door + 0.038, foot - 0.077, GLASS)


def _tree(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    canvas.polygon([(x - 0.04, foot), (x - 0.025, foot - 0.25), (x + 0.025, foot - 0.25), (x + 0.04, foot)], WOOD)
    for across, up, radius in (
        (-0.11, 0.26, 0.1),
        (0.11, 0.27, 0.1),
        (0.0, 0.29, 0.13),
        (-0.05, 0.38, 0.1),
        (0.06, 0.38, 0.09),
    ):
        shift = random.uniform(-0.01, 0.01)
        canvas.disc(x + across + shift, foot - up, radius, paint)
    for across, up in ((-0.07, 0.36), (0.04, 0.40), (-0.12, 0.28), (0.06, 0.30)):
        canvas.disc(x + across, foot - up, 0.04, lighter(paint, 0.16))


def _boat(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    deck = foot - 0.09
    ahead = random.choice((-1, 1))
    canvas.line([(x, deck), (x, deck - 0.37)], WOOD, width=0.016)
    canvas.polygon(
        [(x + 0.018 * ahead, deck - 0.36), (x + 0.018 * ahead, deck - 0.03), (x + 0.18 * ahead, deck - 0.03)], CLOTH
    )
    canvas.polygon(
        [(x - 0.016 * ahead, deck - 0.31), (x - 0.016 * ahead, deck - 0.03), (x - 0.13 * ahead, deck - 0.03)],
        darker(CLOTH, 0.12),
    )
    canvas.polygon([(x - 0.24, deck), (x + 0.24, deck), (x + 0.16, foot + 0.02), (x - 0.16, foot + 0.02)], paint)
    canvas.polygon(
        [(x - 0.24, deck), (x + 0.24, deck), (x + 0.225, deck + 0.018), (x - 0.225, deck + 0.018)], darker(paint, 0.3)
    )


def _lighthouse(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    height, stripes = 0.40, 5
    for index in range(stripes):
        low, high = index / stripes, (index + 1) / stripes
        half_low, half_high = 0.085 - 0.035 * low, 0.085 - 0.035 * high
        stripe = paint if index % 2 == 0 else CLOTH
        if index % 2 and min(paint) > ALMOST_WHITE:
            stripe = BETWEEN_WHITE
        bottom, top = foot - height * low, foot - height * high
        canvas.polygon(
            [(x - half_low, bottom), (x - half_high, top), (x + half_high, top), (x + half_low, bottom)], stripe
        )
    top = foot - height
    canvas.box(x - 0.07, top - 0.018, x + 0.07, top, darker(SLATE, 0.3))
    canvas.box(x - 0.04, top - 0.085, x + 0.04, top - 0.018, LAMP)
    canvas.polygon([(x - 0.06, top - 0.085), (x, top - 0.145), (x + 0.06, top - 0.085)], darker(SLATE, 0.3))
    canvas.box(x - 0.02, foot - 0.06, x + 0.02, foot, (0.16, 0.14, 0.15))


def _bridge(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    """Paint a suspension bridge from edge to edge."""
    deck, tops = foot - 0.13, foot - 0.43
    towers = (x - 0.24, x + 0.24)
    for left, right in ((towers[0] - 0.48, towers[0]), (towers[0], towers[1]), (towers[1], towers[1] + 0.48)):
        sag = [(left + (right - left) * step / 16, _sag(step / 16, tops, deck - 0.03)) for step in range(17)]
        for point in sag[1:-1]:
            canvas.line([point, (point[0], deck)], darker(paint, 0.15), width=0.006)
        canvas.line(sag, paint, width=0.016)
    for tower in towers:
        canvas.box(tower - 0.027, tops - 0.03, tower + 0.027, foot + 0.05, paint)
        canvas.box(tower + 0.009, tops - 0.03, tower + 0.027, foot + 0.05, darker(paint, 0.22))
    canvas.box(0, deck - 0.012, 1, deck + 0.03, darker(paint, 0.12))
    canvas.box(0, deck - 0.016, 1, deck, lighter(paint, 0.1))


def _sag(share: float, top: float, bottom: float) -> float:
    """Say how high a cable hangs between two towers."""
    return bottom + (top - bottom) * (2 * share - 1) ** 2


def _windmill(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    canvas.polygon([(x - 0.12, foot), (x - 0.07, foot - 0.31), (x + 0.07, foot - 0.31), (x + 0.12, foot)], paint)
    canvas.polygon(
        [(x + 0.02, foot), (x + 0.02, foot - 0.31), (x + 0.07, foot - 0.31), (x + 0.12, foot)], darker(paint, 0.14)
    )
    canvas.polygon([(x - 0.085, foot - 0.305), (x, foot - 0.40), (x + 0.085, foot - 0.305)], darker(TILES, 0.2))
    canvas.box(x - 0.03, foot - 0.09, x + 0.03, foot, WOOD)
    hub, turn = (x, foot - 0.32), random.uniform(0.15, math.pi / 2 - 0.15)
    for quarter in range(4):
        angle = turn + quarter * math.pi / 2
        across, down = math.cos(angle), math.sin(angle)
        tip = (hub[0] + 0.25 * across, hub[1] + 0.25 * down)
        start = (hub[0] + 0.06 * across, hub[1] + 0.06 * down)
        wide = (-0.055 * down, 0.055 * across)
        sail = [start, tip, (tip[0] + wide[0], tip[1] + wide[1]), (start[0] + wide[0], start[1] + wide[1])]
        canvas.polygon(sail, CLOTH)
        canvas.line([hub, tip], WOOD, width=0.016)
    canvas.disc(*hub, 0.02, darker(WOOD, 0.3))


def _balloon(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    y, radius = foot - random.uniform(0.53, 0.59), 0.185
    basket = y + 0.33
    for across in (-0.12, -0.04, 0.04, 0.12):
        canvas.line([(x + across, y + 0.13), (x + 0.3 * across, basket)], darker(WOOD, 0.2), width=0.008)
    canvas.polygon([(x - 0.155, y + 0.1), (x + 0.155, y + 0.1), (x + 0.05, y + 0.24), (x - 0.05, y + 0.24)], paint)
    canvas.disc(x, y, radius, paint)
    canvas.disc(x, y, 0.6 * radius, lighter(paint, 0.22), flatten=1.0 / 0.6)
    canvas.polygon(
        [(x - 0.09, y + 0.13), (x + 0.09, y + 0.13), (x + 0.03, y + 0.24), (x - 0.03, y + 0.24)], lighter(paint, 0.22)
    )
    canvas.disc(x, y, 0.24 * radius, paint, flatten=1.0 / 0.24)
    canvas.box(x - 0.045, basket, x + 0.045, basket + 0.06, WOOD)


def _church(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    side = random.choice((-1, 1))
    nave = sorted((x - 0.02 * side, x + 0.24 * side))
    canvas.box(nave[0], foot - 0.17, nave[1], foot, darker(paint, 0.1))
    canvas.polygon(
        [(nave[0], foot - 0.17), (nave[0] + 0.03, foot - 0.27), (nave[1] - 0.03, foot - 0.27), (nave[1], foot - 0.17)],
        SLATE,
    )
    for index in (1, 2, 3):
        window = x + side * (0.06 + 0.05 * index)
        canvas.box(window - 0.012, foot - 0.12, window + 0.012, foot - 0.05, GLASS)
    tower = x - 0.06 * side
    canvas.box(tower - 0.075, foot - 0.29, tower + 0.075, foot, paint)
    canvas.polygon([(tower - 0.085, foot - 0.285), (tower, foot - 0.46), (tower + 0.085, foot - 0.285)], SLATE)
    canvas.line([(tower, foot - 0.44), (tower, foot - 0.55)], LAMP, width=0.014)
    canvas.line([(tower - 0.035, foot - 0.51), (tower + 0.035, foot - 0.51)], LAMP, width=0.014)
    canvas.disc(tower, foot - 0.22, 0.032, CLOTH)
    canvas.disc(tower, foot - 0.22, 0.014, SLATE)
    canvas.box(tower - 0.03, foot - 0.09, tower + 0.03, foot, WOOD)
    canvas.disc(tower, foot - 0.09, 0.03, WOOD)


def _tent(canvas: Canvas, random: Random, x: float, foot: float, paint: Paint) -> None:
    side = random.choice((-1, 1))
    top = foot - 0.27
    canvas.polygon(
        [(x - 0.17 * side, foot), (x - 0.04 * side, top), (x + 0.16 * side, top + 0.03), (x + 0.29 * side, foot)],
        darker(paint, 0.25),
    )
    canvas.polygon([(x - 0.17 * side, foot), (x - 0.04 * side, top), (x + 0.09 * side, foot)], paint)
    canvas.polygon(
        [(x - 0.09 * side, foot), (x - 0.04 * side, top + 0.08), (x + 0.01 * side, foot)], (0.16, 0.14, 0.15)
    )
    canvas.line([(x - 0.04 * side, top), (x - 0.04 * side, top - 0.03)], WOOD, width=0.012)


SUBJECTS: Mapping[Subject, Callable[[Canvas, Random, float, float, Paint], None]] = {
    Subject.CASTLE: _castle,
    Subject.HOUSE: _house,
    Subject.TREE: _tree,
    Subject.BOAT: _boat,
    Subject.LIGHTHOUSE: _lighthouse,
    Subject.BRIDGE: _bridge,
    Subject.WINDMILL: _windmill,
    Subject.BALLOON: _balloon,
    Subject.CHURCH: _church,
    Subject.TENT: _tent,
}
#: What stands on a rock where there is only water.
ON_ROCKS = frozenset(Subject) - {Subject.BOAT, Subject.BRIDGE, Subject.BALLOON}

"""Grounds, from the horizon to the lower edge."""

import math
from collections.abc import Callable, Mapping
from random import Random

from inference.postcard.painting.canvas import Canvas, Paint, darker, lighter, mix
from inference.postcard.painting.skies import HORIZON
from inference.postcard.world import Ground

#: How finely the lines of hills and waves are drawn.
STEPS = 48
#: How much each of two waves gives to a rolling line, and how often it turns across the picture.
ROLLS = ((0.7, (0.7, 1.4)), (0.3, (1.8, 3.0)))

WATER: Paint = (0.12, 0.42, 0.70)
FOAM: Paint = (0.94, 0.98, 1.0)
SAND: Paint = (0.95, 0.84, 0.56)
GRASS: Paint = (0.36, 0.68, 0.26)
WHEAT: Paint = (0.91, 0.76, 0.27)
FIR: Paint = (0.09, 0.36, 0.20)
SNOW: Paint = (0.94, 0.96, 1.0)
ROCK: Paint = (0.47, 0.46, 0.52)
ASPHALT: Paint = (0.32, 0.33, 0.36)
WINDOW: Paint = (1.0, 0.92, 0.55)


def paint(canvas: Canvas, ground: Ground, random: Random) -> None:
    """Paint the ground below a sky that is there."""
    GROUNDS[ground](canvas, random)


def _sea(canvas: Canvas, random: Random) -> None:
    canvas.box(0, HORIZON, 1, 1, WATER)
    for row in range(6):
        _waves(canvas, random, y=HORIZON + 0.04 + 0.065 * row, size=0.5 + 0.16 * row)


def _beach(canvas: Canvas, random: Random) -> None:
    canvas.box(0, HORIZON, 1, 1, WATER)
    for row in range(2):
        _waves(canvas, random, y=HORIZON + 0.03 + 0.04 * row, size=0.5)
    shore = random.uniform(0.70, 0.74)
    _rolling(canvas, random, y=shore - 0.025, height=0.02, paint=FOAM)
    _rolling(canvas, random, y=shore, height=0.015, paint=SAND)
    for _ in range(random.randint(6, 10)):
        canvas.disc(random.random(), random.uniform(0.80, 0.98), 0.008, darker(SAND, 0.25), flatten=0.6)


def _hills(canvas: Canvas, random: Random) -> None:
    _rolling(canvas, random, y=HORIZON - 0.03, height=0.06, paint=mix(GRASS, (0.55, 0.75, 0.62), 0.5))
    _rolling(canvas, random, y=HORIZON + 0.07, height=0.05, paint=lighter(GRASS, 0.12))
    _rolling(canvas, random, y=HORIZON + 0.18, height=0.03, paint=GRASS)


def _mountains(canvas: Canvas, random: Random) -> None:
    start = random.uniform(-0.1, 0.1)
    for index in range(4):
        x, height = start + 0.29 * index, random.uniform(0.26, 0.40)
        top, foot = HORIZON + 0.1 - height, HORIZON + 0.12
        half = 0.62 * height
        shade = random.uniform(-0.04, 0.04)
        rock = (ROCK[0] + shade, ROCK[1] + shade, ROCK[2] + shade)
        canvas.polygon([(x - half, foot), (x, top), (x + half, foot)], rock)
        canvas.polygon([(x, top), (x + half, foot), (x + 0.12 * half, foot)], darker(rock, 0.22))
        cap = 0.34
        canvas.polygon(
            [(x, top), (x + cap * half, top + cap * height), (x + 0.1 * half, top + 0.24 * height),
             (x - 0.08 * half, top + 0.36 * height), (x - cap * half, top + cap * height)],
            SNOW,
        )  # fmt: skip
    _rolling(canvas, random, y=HORIZON + 0.1, height=0.02, paint=(0.38, 0.52, 0.34))


def _desert(canvas: Canvas, random: Random) -> None:
    dune: Paint = (0.93, 0.66, 0.33)
    _rolling(canvas, random, y=HORIZON, height=0.03, paint=lighter(dune, 0.18))
    _rolling(canvas, random, y=HORIZON + 0.10, height=0.04, paint=dune)
    _rolling(canvas, random, y=HORIZON + 0.24, height=0.03, paint=darker(dune, 0.1))
    for _ in range(random.randint(2, 3)):
        _cactus(canvas, x=random.choice((random.uniform(0.04, 0.2), random.uniform(0.8, 0.96))), y=HORIZON + 0.12)


def _field(canvas: Canvas, random: Random) -> None:
    canvas.box(0, HORIZON, 1, 1, WHEAT)
    vanishing = random.uniform(0.35, 0.65)
    for index in range(-9, 10):
        foot = vanishing + 0.2 * index
        rows = [(vanishing + 0.03 * index, HORIZON), (foot, 1.0), (foot + 0.09, 1.0)]
        canvas.polygon(rows, darker(WHEAT, 0.24))
    for index in range(14):
        canvas.disc(index / 13, HORIZON, 0.05, (0.24, 0.50, 0.22), flatten=random.uniform(0.35, 0.6))


def _snow(canvas: Canvas, random: Random) -> None:
    _rolling(canvas, random, y=HORIZON - 0.02, height=0.04, paint=darker(SNOW, 0.12))
    for _ in range(random.randint(4, 6)):
        _fir(canvas, x=random.random(), y=HORIZON + 0.06, height=random.uniform(0.1, 0.15), snowy=True)
    _rolling(canvas, random, y=HORIZON + 0.05, height=0.03, paint=SNOW)
    for _ in range(random.randint(2, 4)):
        canvas.disc(random.random(), random.uniform(0.78, 0.95), 0.12, darker(SNOW, 0.06), flatten=0.12)


def _forest(canvas: Canvas, random: Random) -> None:
    canvas.box(0, HORIZON, 1, 1, (0.22, 0.44, 0.20))
    for row, (count, height) in enumerate(((13, 0.22), (10, 0.26))):
        for index in range(count):
            x = (index + random.uniform(0.2, 0.8)) / count
            tall = height * random.uniform(0.85, 1.25)
            _fir(canvas, x=x, y=HORIZON + 0.05 + 0.06 * row, height=tall, snowy=False)
    for _ in range(random.randint(5, 8)):
        canvas.disc(random.random(), random.uniform(0.80, 0.98), 0.03, (0.16, 0.36, 0.16), flatten=0.4)


def _city(canvas: Canvas, random: Random) -> None:
    x = -random.uniform(0.0, 0.08)
    while x < 1:
        width, top = random.uniform(0.10, 0.16), HORIZON + 0.1 - random.uniform(0.2, 0.42)
        grey = random.uniform(0.36, 0.58)
        canvas.box(x, top, x + width, HORIZON + 0.12, (grey, grey, grey + 0.06))
        _windows(canvas, random, left=x, right=x + width, top=top, bottom=HORIZON + 0.1)
        x += width + random.uniform(0.0, 0.02)
    canvas.box(0, HORIZON + 0.1, 1, 1, (0.62, 0.62, 0.63))
    canvas.box(0, HORIZON + 0.2, 1, 1, ASPHALT)
    shift = random.uniform(0.0, 0.2)
    for index in range(6):
        left = 0.2 * index - shift
        canvas.box(left, 0.925, left + 0.1, 0.945, FOAM)


def _windows(canvas: Canvas, random: Random, *, left: float, right: float, top: float, bottom: float) -> None:
    light, size = canvas.light, 0.022
    y = top + 0.025
    while y < bottom - size:
        x = left + 0.016
        while x < right - size:
            # They shine by themselves.
            canvas.light = (1.0, 1.0, 1.0)
            canvas.box(x, y, x + size, y + size, WINDOW if random.random() < 0.6 else (0.25, 0.28, 0.36))  # noqa: PLR2004
            x += 0.036
        y += 0.045
    canvas.light = light


def _rolling(canvas: Canvas, random: Random, *, y: float, height: float, paint: Paint) -> None:
    """Fill all below a line that goes gently up and down."""
    waves = [(height * share, random.uniform(*turns), random.uniform(0, 2 * math.pi)) for share, turns in ROLLS]
    line = []
    for step in range(STEPS + 1):
        x = step / STEPS
        rise = sum(size * math.sin(2 * math.pi * turns * x + start) for size, turns, start in waves)
        line.append((x, y + rise))
    canvas.polygon([*line, (1.0, 1.0), (0.0, 1.0)], paint)


def _waves(canvas: Canvas, random: Random, *, y: float, size: float) -> None:
    for _ in range(random.randint(4, 6)):
        x = random.random()
        canvas.disc(x, y + random.uniform(-0.012, 0.012), 0.06 * size, lighter(WATER, 0.38), flatten=0.13)


def _fir(canvas: Canvas, *, x: float, y: float, height: float, snowy: bool) -> None:
    canvas.box(x - 0.05 * height, y - 0.1 * height, x + 0.05 * height, y, (0.35, 0.24, 0.14))
    for share, width in ((0.0, 0.30), (0.3, 0.23), (0.58, 0.15)):
        bottom, top = y - height * (0.08 + share), y - height * min(1.0, 0.5 + share)
        canvas.polygon([(x - width * height, bottom), (x, top), (x + width * height, bottom)], FIR)
        if snowy:
            half = 0.45 * width * height
            middle = bottom + 0.55 * (top - bottom)
            canvas.polygon([(x - half, middle), (x, top), (x + half, middle)], SNOW)


def _cactus(canvas: Canvas, *, x: float, y: float) -> None:
    green: Paint = (0.24, 0.52, 0.26)
    canvas.line([(x, y), (x, y - 0.13)], green, width=0.026)
    canvas.line([(x, y - 0.05), (x - 0.04, y - 0.05), (x - 0.04, y - 0.10)], green, width=0.018)
    canvas.line([(x, y - 0.07), (x + 0.04, y - 0.07), (x + 0.04, y - 0.11)], green, width=0.018)


GROUNDS: Mapping[Ground, Callable[[Canvas, Random], None]] = {
    Ground.BEACH: _beach,
    Ground.SEA: _sea,
    Ground.HILLS: _hills,
    Ground.MOUNTAINS: _mountains,
    Ground.DESERT: _desert,
    Ground.FIELD: _field,
    Ground.SNOW: _snow,
    Ground.FOREST: _forest,
    Ground.CITY: _city,
}

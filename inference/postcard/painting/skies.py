"""Skies, and the light that they give."""

from collections.abc import Callable, Mapping
from random import Random

from inference.postcard.painting.canvas import Canvas, Paint, Point, mix
from inference.postcard.world import Sky

#: Where sky and ground meet.
HORIZON = 0.6

#: What is left of each colour on the ground.
LIGHTS: Mapping[Sky, Paint] = {
    Sky.DAY: (1.0, 1.0, 1.0),
    Sky.SUNSET: (0.92, 0.66, 0.52),
    Sky.DAWN: (0.98, 0.84, 0.88),
    Sky.NIGHT: (0.34, 0.40, 0.62),
    Sky.STORM: (0.55, 0.60, 0.66),
}
#: Subjects stand out from the ground: this much of what the light takes is given back.
GIVEN_BACK = 0.65


def paint(canvas: Canvas, sky: Sky, random: Random, *, light_x: float) -> None:
    """Paint a sky over the whole canvas, its sun or moon at `light_x`."""
    SKIES[sky](canvas, random, light_x)


def light_on_subjects(sky: Sky) -> Paint:
    """Say what is left of each colour on what stands on the ground."""
    return mix(LIGHTS[sky], (1.0, 1.0, 1.0), GIVEN_BACK)


def _day(canvas: Canvas, random: Random, x: float) -> None:
    y = random.uniform(0.1, 0.24)
    canvas.fill([(0.0, (0.22, 0.53, 0.93)), (HORIZON, (0.72, 0.89, 0.99))], glow=((x, y), 0.13, (1.0, 0.97, 0.75)))
    canvas.disc(x, y, 0.065, (1.0, 0.93, 0.42))
    for _ in range(random.randint(1, 3)):
        _cloud(canvas, random, y=random.uniform(0.08, 0.36), paint=(1.0, 1.0, 1.0))


def _sunset(canvas: Canvas, random: Random, x: float) -> None:
    y = random.uniform(0.44, 0.53)
    stops = [(0.0, (0.30, 0.12, 0.38)), (0.3, (0.82, 0.24, 0.26)), (HORIZON, (1.0, 0.62, 0.16))]
    canvas.fill(stops, glow=((x, y), 0.24, (1.0, 0.78, 0.25)))
    canvas.disc(x, y, 0.1, (1.0, 0.88, 0.40))
    for _ in range(random.randint(1, 3)):
        _streak(canvas, random, y=random.uniform(0.12, 0.4), paint=(0.62, 0.17, 0.28))


def _dawn(canvas: Canvas, random: Random, x: float) -> None:
    y = random.uniform(0.50, 0.57)
    stops = [(0.0, (0.56, 0.68, 0.93)), (0.32, (0.88, 0.74, 0.90)), (HORIZON, (1.0, 0.83, 0.80))]
    canvas.fill(stops, glow=((x, y), 0.16, (1.0, 0.96, 0.84)))
    canvas.disc(x, y, 0.06, (1.0, 0.98, 0.88))
    for _ in range(random.randint(1, 3)):
        _streak(canvas, random, y=random.uniform(0.1, 0.4), paint=(0.98, 0.80, 0.87))


def _night(canvas: Canvas, random: Random, x: float) -> None:
    y = random.uniform(0.13, 0.24)
    canvas.fill([(0.0, (0.02, 0.03, 0.12)), (HORIZON, (0.12, 0.16, 0.36))], glow=((x, y), 0.12, (0.32, 0.36, 0.52)))
    for _ in range(random.randint(18, 30)):
        canvas.disc(random.random(), random.uniform(0.0, HORIZON), random.choice((0.006, 0.009)), (1.0, 1.0, 0.92))
    canvas.disc(x, y, 0.075, (0.96, 0.95, 0.84))
    if random.random() < 0.5:  # noqa: PLR2004  # as often a crescent as a full moon
        canvas.disc(x + 0.04, y - 0.02, 0.066, (0.05, 0.07, 0.2))


def _storm(canvas: Canvas, random: Random, x: float) -> None:
    canvas.fill([(0.0, (0.16, 0.18, 0.22)), (HORIZON, (0.52, 0.56, 0.58))])
    for _ in range(random.randint(4, 6)):
        shade = random.uniform(0.2, 0.32)
        _cloud(canvas, random, y=random.uniform(0.02, 0.18), paint=(shade, shade, shade + 0.04), scale=1.7)
    _lightning(canvas, random, x)
    for _ in range(random.randint(16, 24)):
        left, top = random.random(), random.uniform(0.2, 0.52)
        canvas.line([(left, top), (left - 0.02, top + 0.08)], (0.74, 0.79, 0.84), width=0.006)


def _cloud(canvas: Canvas, random: Random, *, y: float, paint: Paint, scale: float = 1.0) -> None:
    x = random.random()
    for offset, rise, radius in ((-0.08, 0.0, 0.045), (-0.03, -0.02, 0.06), (0.03, -0.01, 0.055), (0.08, 0.005, 0.04)):
        canvas.disc(x + scale * offset, y + scale * rise, scale * radius, paint, flatten=0.75)


def _streak(canvas: Canvas, random: Random, *, y: float, paint: Paint) -> None:
    x, width = random.random(), random.uniform(0.12, 0.26)
    canvas.disc(x, y, width, paint, flatten=0.09)
    canvas.disc(x + 0.08, y + 0.022, 0.6 * width, paint, flatten=0.09)


def _lightning(canvas: Canvas, random: Random, x: float) -> None:
    bolt: list[Point] = [(x, 0.16)]
    for fall in (0.27, 0.31, 0.44, 0.47, 0.58):
        bolt.append((bolt[-1][0] + random.uniform(0.02, 0.06) * (-1) ** len(bolt), fall))
    canvas.line(bolt, (1.0, 0.98, 0.62), width=0.02)


SKIES: Mapping[Sky, Callable[[Canvas, Random, float], None]] = {
    Sky.DAY: _day,
    Sky.SUNSET: _sunset,
    Sky.DAWN: _dawn,
    Sky.NIGHT: _night,
    Sky.STORM: _storm,
}

"""Plain shapes on plain backgrounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

from inference.postcard.painting.canvas import Canvas, Paint, Point
from inference.postcard.painting.colours import paint_of
from inference.postcard.world import Figure, Shape

#: How finely round lines are drawn.
CORNERS = 72


def paint(canvas: Canvas, figure: Figure, random: Random) -> None:
    """Paint a figure."""
    canvas.fill([(0.0, paint_of(figure.background, random))] * 2)
    radius = random.uniform(0.24, 0.36)
    x, y = random.uniform(0.44, 0.56), random.uniform(0.44, 0.56)
    _fill(canvas, OUTLINES[figure.shape](), paint_of(figure.colour, random), x=x, y=y, radius=radius)


def _fill(canvas: Canvas, outline: Sequence[Point], paint: Paint, *, x: float, y: float, radius: float) -> None:
    canvas.polygon([(x + radius * across, y + radius * down) for across, down in outline], paint)


def _circle() -> Sequence[Point]:
    return _regular(CORNERS)


def _square() -> Sequence[Point]:
    return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]


def _triangle() -> Sequence[Point]:
    return [(0.0, -0.95), (1.0, 0.78), (-1.0, 0.78)]


def _star() -> Sequence[Point]:
    outer, inner = _regular(5, radius=1.1), _regular(5, radius=0.45, turn=math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> Sequence[Point]:
    turns = [2 * math.pi * index / CORNERS for index in range(CORNERS)]
    return [(math.sin(t) ** 3, -_heart_height(t) / 16) for t in turns]


def _heart_height(turn: float) -> float:
    return 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)


def _diamond() -> Sequence[Point]:
    return [(0.0, -1.1), (0.72, 0.0), (0.0, 1.1), (-0.72, 0.0)]


def _regular(corners: int, *, radius: float = 1.0, turn: float = 0.0) -> Sequence[Point]:
    """Place corners around the middle, the first of them at the top."""
    turns = [turn + 2 * math.pi * index / corners for index in range(corners)]
    return [(radius * math.sin(t), -radius * math.cos(t)) for t in turns]


OUTLINES: Mapping[Shape, Callable[[], Sequence[Point]]] = {
    Shape.CIRCLE: _circle,
    Shape.SQUARE: _square,
    Shape.TRIANGLE: _triangle,
    Shape.STAR: _star,
    Shape.HEART: _heart,
    Shape.DIAMOND: _diamond,
}

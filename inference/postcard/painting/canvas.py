"""A canvas with coordinates from 0 to 1, the origin at the top left."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

#: Red, green and blue, each from 0 to 1.
Paint: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float]
Pixels: TypeAlias = npt.NDArray[np.uint8]

#: Lines are drawn on so many times the size and then averaged, which makes their edges smooth.
SUPERSAMPLING = 3


class Canvas:
    """Opaque paint on a square, under one light."""

    def __init__(self, size_pixels: int) -> None:
        self._size_pixels = size_pixels
        self._side = size_pixels * SUPERSAMPLING
        self._image = Image.new("RGB", (self._side, self._side))
        self._draw = ImageDraw.Draw(self._image)
        self.light: Paint = (1.0, 1.0, 1.0)

    def fill(self, stops: Sequence[tuple[float, Paint]], *, glow: tuple[Point, float, Paint] | None = None) -> None:
        """Fill it from top to bottom with what lies between the stops; a glow has a centre, a radius and a paint."""
        rows = np.linspace(0, 1, self._side, dtype=np.float32)
        where, paints = zip(*stops, strict=True)
        column = np.stack([np.interp(rows, where, channel) for channel in zip(*paints, strict=True)], axis=-1)
        area = np.repeat(column[:, None].astype(np.float32), self._side, axis=1)
        if glow is not None:
            (x, y), radius, paint = glow
            distance = ((rows[None, :] - x) ** 2 + (rows[:, None] - y) ** 2) / radius**2
            share = np.exp(-distance)[..., None]
            area += share * (np.asarray(paint, dtype=np.float32) - area)
        self._image.paste(Image.fromarray((area * 255).round().astype(np.uint8)))

    def polygon(self, points: Sequence[Point], paint: Paint) -> None:
        """Fill what lies within a line."""
        self._draw.polygon([self._place(point) for point in points], fill=self._lit(paint))

    def box(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Fill a rectangle; one that ends before it begins is none."""
        if left < right and top < bottom:
            self._draw.rectangle((*self._place((left, top)), *self._place((right, bottom))), fill=self._lit(paint))

    def disc(self, x: float, y: float, radius: float, paint: Paint, *, flatten: float = 1.0) -> None:
        """Fill a circle, or an ellipse with so much of its height."""
        height = radius * flatten
        corners = (*self._place((x - radius, y - height)), *self._place((x + radius, y + height)))
        self._draw.ellipse(corners, fill=self._lit(paint))

    def line(self, points: Sequence[Point], paint: Paint, *, width: float) -> None:
        """Draw along points."""
        pixels = max(1, round(width * self._side))
        self._draw.line([self._place(point) for point in points], fill=self._lit(paint), width=pixels, joint="curve")

    def pixels(self) -> Pixels:
        """Give what was painted: height x width x 3."""
        return np.asarray(self._image.resize((self._size_pixels,) * 2, Image.Resampling.BOX))

    def _place(self, point: Point) -> tuple[float, float]:
        return point[0] * self._side, point[1] * self._side

    def _lit(self, paint: Paint) -> tuple[int, int, int]:
        red, green, blue = (
            round(255 * min(1.0, max(0.0, part * light))) for part, light in zip(paint, self.light, strict=True)
        )
        return red, green, blue


def mix(one: Paint, other: Paint, share: float) -> Paint:
    """Mix two paints, with a share of the other."""
    red, green, blue = (a + share * (b - a) for a, b in zip(one, other, strict=True))
    return red, green, blue


def darker(paint: Paint, share: float = 0.2) -> Paint:
    """Take a share of a paint's brightness away."""
    return mix(paint, (0.0, 0.0, 0.0), share)


def lighter(paint: Paint, share: float = 0.2) -> Paint:
    """Mix a share of white into a paint."""
    return mix(paint, (1.0, 1.0, 1.0), share)

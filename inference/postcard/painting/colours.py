"""The paints behind the colours' names."""

from collections.abc import Mapping
from random import Random

from inference.postcard.painting.canvas import Paint
from inference.postcard.world import Colour

PAINTS: Mapping[Colour, Paint] = {
    Colour.RED: (0.86, 0.12, 0.13),
    Colour.ORANGE: (0.97, 0.53, 0.08),
    Colour.YELLOW: (0.98, 0.86, 0.16),
    Colour.GREEN: (0.13, 0.62, 0.24),
    Colour.BLUE: (0.13, 0.33, 0.86),
    Colour.PURPLE: (0.50, 0.17, 0.68),
    Colour.PINK: (0.98, 0.52, 0.74),
    Colour.WHITE: (0.96, 0.96, 0.94),
    Colour.BLACK: (0.10, 0.10, 0.12),
}
#: No two pictures have quite the same red.
VARIATION = 0.03


def paint_of(colour: Colour, random: Random) -> Paint:
    """Take a colour from its pot."""
    red, green, blue = (part + random.uniform(-VARIATION, VARIATION) for part in PAINTS[colour])
    return red, green, blue

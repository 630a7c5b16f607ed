"""Puts the parts of a picture together."""

from random import Random

from inference.postcard.painting import figures, grounds, skies, subjects
from inference.postcard.painting.canvas import Canvas, Pixels
from inference.postcard.world import Figure, Landscape, Scene

SIZE_PIXELS = 128


def paint(scene: Scene, random: Random) -> Pixels:
    """Paint a scene, 128 x 128 x 3; what it leaves open, such as where things stand, is drawn from `random`."""
    canvas = Canvas(SIZE_PIXELS)
    match scene:
        case Figure():
            figures.paint(canvas, scene, random)
        case Landscape():
            _paint_landscape(canvas, scene, random)
    return canvas.pixels()


def _paint_landscape(canvas: Canvas, scene: Landscape, random: Random) -> None:
    # The subject on one side and the sun or moon on the other, so that both are seen.
    side = random.choice((-1, 1))
    skies.paint(canvas, scene.sky, random, light_x=0.5 + side * random.uniform(0.18, 0.34))
    canvas.light = skies.LIGHTS[scene.sky]
    grounds.paint(canvas, scene.ground, random)
    if scene.subject is not None:
        canvas.light = skies.light_on_subjects(scene.sky)
        x = 0.5 - side * random.uniform(0.0, 0.16)
        subjects.paint(canvas, scene.subject, scene.colour, random, x=x, ground=scene.ground)

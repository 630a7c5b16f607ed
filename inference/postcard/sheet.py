"""Draws a sheet of samples with their prompts: `python -m inference.postcard.sheet docs/pictures/postcard.png`."""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from inference.models import ModelUnavailable
from inference.postcard.drawing import MODEL, Drawing
from inference.postcard.painting import SIZE_PIXELS
from inference.postcard.painting.canvas import Pixels

#: Prompts as people write them. Each is drawn once, with the seed of its place on the sheet: none was chosen.
PROMPTS = (
    "a sunset over a beach",
    "A Renaissance castle in the Loire Valley",
    "a red lighthouse by the sea at night",
    "a windmill in a wheat field, children's book",
    "hot air balloon over the mountains at dawn",
    "a blue tent in a snowy forest",
    "a storm at sea",
    "a yellow house in the desert",
    "a church in the city, in the rain",
    "a pirate ship at sundown",
    "an oak tree on a hill under the stars",
    "suspension bridge, skyline, golden hour",
    "snow in the mountains",
    "a red circle on a blue background",
    "a pink heart on black",
    "a yellow star on a purple background",
)
COLUMNS = 4
#: A picture is shown at twice its size, with a margin around it and lines of text below.
SCALE, MARGIN, TEXT_HEIGHT, FONT_SIZE, LINE_LENGTH = 2, 14, 44, 15, 34
BACKGROUND, INK = "#f7f3ea", "#33302b"


def main() -> None:
    """Draw the prompts and write the sheet."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.sheet", description=__doc__)
    parser.add_argument("file", type=Path, help="the PNG to write")
    parser.add_argument("--model", default=MODEL, metavar="FOLDER", help="another model of this world")
    arguments = parser.parse_args()
    if arguments.file.suffix != ".png" or not arguments.file.parent.is_dir():
        parser.error("file: a PNG in a folder that is there")
    try:
        drawing = Drawing(arguments.model)
    except ModelUnavailable as error:
        parser.error(str(error))
    # One by one, as a reader would who tries them.
    pictures = [drawing.draw([prompt], [seed])[0] for seed, prompt in enumerate(PROMPTS)]
    sheet(pictures).save(arguments.file, optimize=True)


def sheet(pictures: Sequence[Pixels]) -> Image.Image:
    """Put pictures onto one, each with its prompt."""
    side = SCALE * SIZE_PIXELS
    width, height = side + MARGIN, side + MARGIN + TEXT_HEIGHT
    rows = -(-len(pictures) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), BACKGROUND)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(FONT_SIZE)
    for index, (prompt, picture) in enumerate(zip(PROMPTS, pictures, strict=True)):
        left, top = MARGIN + index % COLUMNS * width, MARGIN + index // COLUMNS * height
        enlarged = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
        whole.paste(enlarged, (left, top))
        draw.multiline_text((left, top + side + 4), textwrap.fill(prompt, LINE_LENGTH), fill=INK, font=font)
    return whole


if __name__ == "__main__":
    main()

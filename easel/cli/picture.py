"""Pictures in the terminal: by kitty's protocol, as sixels, or in half blocks of colour."""

import base64
import functools
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import PIL.Image
import typer
from PIL.Image import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from easel.cli.arguments import ShowAs
from easel.cli.exits import complain
from easel.cli.graphics import Cell, find_cell, find_way
from easel.cli.terminal import MUTED, Output
from easel.client import Preview

#: A picture is no higher than this, and leaves so many lines of the terminal free.
MOST_ROWS = 32
FREE_ROWS = 6
#: A preview is no higher than this.
MOST_PREVIEW_ROWS = 16

#: What kitty takes in one piece: so many characters of base64.
KITTY_CHUNK = 4096

SIXEL_COLOURS = 256
SIXEL_ROWS = 6
_SIXEL_CHARACTERS = bytes((63 + bits) % 256 for bits in range(256))
_REPEATED = re.compile(r"(.)\1{3,}")


class Gallery:
    """Shows pictures in the terminal in the way that it can."""

    def __init__(self, way: ShowAs, *, console: Console, cell: Cell | None = None) -> None:
        self._way = way
        self._console = console
        self._cell = cell or Cell()

    @classmethod
    def open(cls, way: ShowAs | None) -> Self:
        """Make a gallery on standard output, asking the terminal for the way when none is given.

        Raises:
            typer.BadParameter: standard output is no terminal that could be asked.
        """
        if way is None and not sys.stdout.isatty():
            raise typer.BadParameter(
                "standard output is no terminal that could be asked; --show-as says how", param_hint="--show"
            )
        # Colours are kept even in a pipe, since somebody asked for them there.
        console = Output(force_terminal=True)
        return cls(way or find_way(), console=console, cell=find_cell(sys.stdout.fileno()))

    def show(self, paths: Sequence[Path]) -> None:
        """Show pictures one below another; one that cannot be read is told of in one line."""
        for path in paths:
            self._console.print()
            try:
                self._show(path.read_bytes())
            except OSError as error:
                complain(f"cannot show {path}: {error.strerror or 'it is no picture that Pillow reads'}")

    def draw_preview(self, preview: Preview) -> RenderableType:
        """Draw a preview in half blocks, which alone can be drawn over again and again."""
        try:
            blocks = self._blocks(preview.data, most_rows=MOST_PREVIEW_ROWS)
        except OSError:
            return Text("a preview that cannot be read", style=MUTED)
        return blocks

    def _show(self, file: bytes) -> None:
        if self._way is ShowAs.BLOCKS:
            self._console.print(self._blocks(file, most_rows=MOST_ROWS))
            return
        picture = _open(file)
        columns, rows = self._fit(picture.size, most_rows=MOST_ROWS)
        scaled = picture.resize((columns * self._cell.width, rows * self._cell.height))
        encoded = kitty(scaled, columns=columns, rows=rows) if self._way is ShowAs.KITTY else sixel(scaled)
        self._console.file.write(encoded + "\n")
        self._console.file.flush()

    def _blocks(self, file: bytes, *, most_rows: int) -> "HalfBlocks":
        picture = _open(file)
        columns, rows = self._fit(picture.size, most_rows=most_rows)
        return HalfBlocks(picture.resize((columns, rows * 2)))

    def _fit(self, size: tuple[int, int], *, most_rows: int) -> tuple[int, int]:
        """Choose as many columns and rows as the terminal has room for, in the picture's own proportions."""
        width, height = size
        room = max(1, min(most_rows, self._console.height - FREE_ROWS))
        columns_per_row = width / height * self._cell.height / self._cell.width
        rows = min(room, self._console.width / columns_per_row)
        return max(1, round(rows * columns_per_row)), max(1, round(rows))


class HalfBlocks:
    """A picture of two pixels for a character: the upper one in the colour of the text, the lower one behind it.

    rich takes the nearest of the colours that the terminal has.
    """

    def __init__(self, picture: Image) -> None:
        self._columns, height = picture.size
        self._rows = [_row(picture, top) for top in range(0, height, 2)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the characters."""
        for row in self._rows:
            yield from row
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Tell the width."""
        return Measurement(self._columns, self._columns)


def kitty(picture: Image, *, columns: int, rows: int) -> str:
    """Encode a picture for kitty's graphics protocol, to be drawn over so many characters.

    https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    payload = base64.standard_b64encode(file.getvalue()).decode()
    chunks = [payload[start : start + KITTY_CHUNK] for start in range(0, len(payload), KITTY_CHUNK)]
    controls = [f"a=T,f=100,q=2,c={columns},r={rows},", *([""] * (len(chunks) - 1))]
    return "".join(
        f"\x1b_G{control}m={int(number < len(chunks))};{chunk}\x1b\\"
        for number, (control, chunk) in enumerate(zip(controls, chunks, strict=True), start=1)
    )


def sixel(picture: Image) -> str:
    """Encode a picture as sixels, in 256 colours of its own.

    Each band of six rows is drawn once in each of its colours; a character stands for six pixels, one above another.
    https://vt100.net/docs/vt3xx-gp/chapter14.html
    """
    reduced = picture.quantize(SIXEL_COLOURS)
    width, height = reduced.size
    rows = [reduced.crop((0, row, width, row + 1)).tobytes() for row in range(height)]
    bands = [_band(rows[top : top + SIXEL_ROWS]) for top in range(0, height, SIXEL_ROWS)]
    return f'\x1bPq"1;1;{width};{height}{_palette(reduced)}{"-".join(bands)}\x1b\\'


def _palette(reduced: Image) -> str:
    levels = [round(level * 100 / 255) for level in reduced.getpalette() or ()]
    colours = zip(levels[0::3], levels[1::3], levels[2::3], strict=True)
    return "".join(f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(colours))


def _band(rows: Sequence[bytes]) -> str:
    width = len(rows[0])
    drawn = []
    for colour in sorted(set().union(*rows)):
        bits = 0
        for number, row in enumerate(rows):
            # All columns at once: a byte for each, with this row's bit in it where the pixel has the colour.
            bits |= int.from_bytes(row.translate(_bit_table(colour, number)), "big")
        sixels = bits.to_bytes(width, "big").translate(_SIXEL_CHARACTERS).decode()
        drawn.append(f"#{colour}{_REPEATED.sub(lambda run: f'!{len(run[0])}{run[1]}', sixels)}")
    return "$".join(drawn)


@functools.cache
def _bit_table(colour: int, row: int) -> bytes:
    table = bytearray(256)
    table[colour] = 1 << row
    return bytes(table)


def _row(picture: Image, top: int) -> list[Segment]:
    pixels: Any = picture.load()

    def colour(column: int, row: int) -> Color:
        red, green, blue = pixels[column, row]
        return Color.from_rgb(red, green, blue)

    return [
        Segment("▀", Style(color=colour(column, top), bgcolor=colour(column, top + 1)))
        for column in range(picture.width)
    ]


def _open(file: bytes) -> Image:
    return PIL.Image.open(io.BytesIO(file)).convert("RGB")

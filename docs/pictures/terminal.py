"""Runs a command on a terminal that is not there, and writes what it shows in the end as an SVG.

python docs/pictures/terminal.py docs/demo.svg -- make demo

Needs `pip install pyte`, a terminal emulator in Python; everything else is there already.
"""

import argparse
import os
import pty
import re
import shlex
import struct
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS = 96
#: More than any command prints; what is not used is not drawn.
ROWS = 400

#: pyte's names of colours that rich calls otherwise.
COLOUR_NAMES = {"brown": "yellow", "default": ""}

#: Embedded pictures load no fonts from elsewhere.
FONT_FACE = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)
FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def main() -> int:
    """Run, draw, and return the command's exit status."""
    parser = argparse.ArgumentParser(description="Draw what a command shows on a terminal.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--last", type=int, default=ROWS, metavar="LINES", help="draw only the last lines")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    screen, status = run(options.command)
    lines = [line_of(screen, row) for row in range(ROWS)]
    while lines and not lines[-1].plain:
        lines.pop()
    draw([Text(f"$ {shlex.join(options.command)}", style="bold"), *lines[-options.last :]], options.picture)
    return status


def run(command: list[str]) -> tuple[pyte.Screen, int]:
    """Run a command to its end on an emulated terminal; return its screen and the exit status."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        ioctl(sys.stdout.fileno(), TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
            os.environ.pop(name, None)  # a make below another one would say where it is
        os.execvp(command[0], command)  # noqa: S606  # no shell is what we want
    while output := read(terminal):
        stream.feed(output)
    return screen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read(terminal: int) -> bytes:
    """Read what there is; nothing once the command has ended, which Linux tells as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def line_of(screen: pyte.Screen, row: int) -> Text:
    """Turn a row of the screen into text with its styles, and paths below this folder into relative ones."""
    line = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        colour = COLOUR_NAMES.get(cell.fg, cell.fg.replace("bright", "bright_"))
        if re.fullmatch("[0-9a-f]{6}", colour):
            colour = f"#{colour}"
        line.append(cell.data, style=" ".join(filter(None, ("bold" * cell.bold, "italic" * cell.italics, colour))))
    line.rstrip()
    here = f"{Path.cwd()}{os.sep}"
    start = line.plain.find(here)
    return line if start < 0 else Text.assemble(line[:start], line[start + len(here) :])


def draw(lines: list[Text], picture: Path) -> None:
    """Write lines as an SVG."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text("\n").join(lines), soft_wrap=True)
    svg = FONT_FACE.sub("", console.export_svg(title="Easel", unique_id=picture.stem))
    picture.write_text(re.sub(r"font-family: (Fira Code|arial)[^;]*;", f"font-family: {FONT};", svg), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

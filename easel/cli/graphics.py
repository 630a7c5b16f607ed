"""How this terminal can show pictures: it is asked, as the protocols want it."""

import os
import re
import select
import struct
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from easel.cli.arguments import ShowAs

#: Every terminal answers the second half, which tells its attributes; those that know kitty's protocol answer the
#: first half before that. https://sw.kovidgoyal.net/kitty/graphics-protocol/#querying-support-and-available-transmission-mediums
QUERY = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
ANSWER = re.compile(rb"\x1b\[\?([0-9;]*)c")
KITTY_KNOWN = b"\x1b_Gi=31;OK"
#: The attribute of terminals that draw sixels.
SIXEL_ATTRIBUTE = b"4"

#: Wipes out the query where a terminal, not knowing such things, has written it down.
WIPE = b"\r\x1b[K"

#: As long as a terminal at the other end of the world takes.
ANSWER_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Cell:
    """The size of a character in pixels; where a terminal does not tell, that of the VT340."""

    width: int = 10
    height: int = 20


def find_way(terminal: Path = Path("/dev/tty")) -> ShowAs:
    """Ask the terminal what it can; one that does not answer, or cannot be asked, gets blocks."""
    try:
        descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return ShowAs.BLOCKS
    try:
        return _way_of(ask(descriptor))
    except (OSError, termios.error):
        return ShowAs.BLOCKS
    finally:
        os.close(descriptor)


def find_cell(descriptor: int) -> Cell:
    """Read the size of a character from the terminal behind a descriptor."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return Cell()
    if not (rows and columns and width and height):
        return Cell()
    return Cell(width // columns, height // rows)


def ask(descriptor: int, *, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS) -> bytes:
    """Send the query to a terminal and return what it answers, as far as it does in time."""
    if os.tcgetpgrp(descriptor) != os.getpgrp():
        return b""  # in the background: who touches the terminal from there is stopped
    answer = b""
    end = time.monotonic() + timeout_seconds
    with _unbuffered(descriptor):
        os.write(descriptor, QUERY)
        while ANSWER.search(answer) is None:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            answer += os.read(descriptor, 1024)
        os.write(descriptor, WIPE)
    return answer


def _way_of(answer: bytes) -> ShowAs:
    if KITTY_KNOWN in answer:
        return ShowAs.KITTY
    attributes = ANSWER.search(answer)
    if attributes is not None and SIXEL_ATTRIBUTE in attributes[1].split(b";")[1:]:
        return ShowAs.SIXEL
    return ShowAs.BLOCKS


@contextmanager
def _unbuffered(descriptor: int) -> Iterator[None]:
    """Read single characters, and show none of them."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

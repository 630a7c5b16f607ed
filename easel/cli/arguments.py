"""Arguments and options that several commands share, and how their texts are read.

Nothing heavy is imported here, so that `easel --help` stays quick.
"""

import os
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from easel.cli.exits import BAD_REQUEST, complain
from easel.cli.installed import is_installed

if TYPE_CHECKING:
    from easel.cli.picture import Gallery

FILES = "Files"
REQUEST = "The request"

DEFAULT_TARGET = "127.0.0.1:50051"

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
#: A century, which nobody means, and which every clock can count.
MOST_SECONDS = 100 * 365 * 86_400
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]*)")


def seconds(text: str) -> float:
    """Read a duration: `90`, `1.5 s`, `10min`, `2h`, `7d`."""
    found = _DURATION.fullmatch(text.strip())
    if found is not None and found[2] in _UNITS:
        duration_seconds = float(found[1]) * _UNITS[found[2]]
        if duration_seconds < MOST_SECONDS:
            return duration_seconds
    raise typer.BadParameter(f"{text!r} is no duration such as 90, 10min, 2h or 7d")


def moment(text: str) -> datetime:
    """Read a moment: how long ago, as `2h`, or a date with or without a time and a zone, as `2026-01-31T18:00`.

    Without a zone it is in the time of this machine.
    """
    ago = _DURATION.fullmatch(text.strip())
    if ago is not None and ago[2]:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment such as 2h (ago), 2026-01-31 or 2026-01-31T18:00") from None


class Label(NamedTuple):
    """A key and a value."""

    key: str
    value: str


def label(text: str) -> Label:
    """Read a label: `team=web`."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"{text!r} is no label such as team=web")
    return Label(key, value)


def address(text: str) -> str:
    """Read the address of a gateway: `host:port`, or any other target of gRPC's."""
    if not text.strip() or text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{text!r} is no address such as {DEFAULT_TARGET}")
    return text


def file_or_folder(text: str) -> Path:
    """Read where to write pictures; what ends in a slash is a folder, which is made unless it is there."""
    path = Path(text)
    if text.endswith(os.sep):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"cannot make {text}: {error.strerror}") from error
    return path


def check_none(*, goes_with: str, **given: object) -> None:
    """Check that options were not given which go with something else that was not given.

    Raises:
        typer.BadParameter: one was.
    """
    for name, value in given.items():
        if value:
            raise typer.BadParameter(f"goes with {goes_with}", param_hint=f"--{name.replace('_', '-')}")


def open_gallery(*, show: bool, show_as: "ShowAs | None", as_json: bool) -> "Gallery | None":
    """Make what shows pictures in the terminal, if it was asked for.

    Raises:
        typer.BadParameter: standard output is for machines, or no terminal.
        typer.Exit: Pillow is missing, and one line was printed that says so.
    """
    if not show and show_as is None:
        return None
    if as_json:
        raise typer.BadParameter("pictures and JSON do not go together", param_hint="--show")
    if not is_installed("show"):
        complain("showing pictures needs Pillow, which is not installed here: pip install 'easel[show]'")
        raise typer.Exit(BAD_REQUEST)
    from easel.cli.picture import Gallery

    return Gallery.open(show_as)


class Format(StrEnum):
    """File formats by the names people know."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


class State(StrEnum):
    """Where a generation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Reason(StrEnum):
    """Why a generation FAILED."""

    MODEL_ERROR = "model-error"
    OUT_OF_MEMORY = "out-of-memory"
    INVALID_OUTPUT = "invalid-output"
    STORAGE = "storage"
    DEAD_LETTER = "dead-letter"
    ENCODING = "encoding"
    INTERNAL = "internal"


class ShowAs(StrEnum):
    """How a terminal shows pictures."""

    KITTY = "kitty"
    SIXEL = "sixel"
    #: Half a character for a pixel, everywhere.
    BLOCKS = "blocks"


Target = Annotated[
    str,
    typer.Option(
        envvar="EASEL_TARGET",
        metavar="HOST:PORT",
        parser=address,
        help="The gateway to talk to.",
        show_default=True,
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON and nothing else: one object a line.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a generation.", show_default=False)]
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="The ids of generations.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        parser=file_or_folder,
        help="Where to write the picture: a file, or a folder; one that is not there yet ends in a slash.",
        rich_help_panel=FILES,
    ),
]
Previews = Annotated[
    Path | None,
    typer.Option(
        "--preview",
        metavar="DIR",
        help="Write previews into this folder, as ID-PICTURE-STEP.jpg.",
        rich_help_panel=FILES,
    ),
]
Show = Annotated[
    bool, typer.Option("--show", metavar="", help="Show the picture in the terminal.", rich_help_panel=FILES)
]
ShowAsOption = Annotated[
    ShowAs | None,
    typer.Option(
        "--show-as", help="The same, in this way; --show asks the terminal for the best.", rich_help_panel=FILES
    ),
]
Labels = Annotated[
    list[Label] | None,
    typer.Option(
        "--label",
        metavar="KEY=VALUE",
        parser=label,
        help="A label; may be given several times.",
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", help="Of this model; may be given several times.")
]
Reasons = Annotated[
    list[Reason] | None,
    typer.Option(
        "--failure",
        metavar="REASON",
        help=f"Failed for this reason, one of {', '.join(Reason)}; may be given several times.",
    ),
]
After = Annotated[
    datetime | None,
    typer.Option(metavar="WHEN", parser=moment, help="Accepted since then: 2h (ago), 2026-01-31, …T18:00."),
]
Before = Annotated[datetime | None, typer.Option(metavar="WHEN", parser=moment, help="Accepted before then.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]
RequestId = Annotated[
    str,
    typer.Option(
        metavar="TEXT", help="Sent again with the same request, it gives the same generation.", rich_help_panel=REQUEST
    ),
]

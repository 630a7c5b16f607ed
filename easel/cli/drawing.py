"""From a generation that begins to its files: everything shown, previews kept, pictures fetched."""

import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer
from rich.console import Console

from easel.cli import destination
from easel.cli.description import describe, print_json
from easel.cli.display import Display, display_on
from easel.cli.exits import INTERRUPTED, complain
from easel.cli.run import run
from easel.cli.signals import Terminated
from easel.cli.tables import show_drawn
from easel.cli.terminal import Output, state_name
from easel.client import Client, EaselError, Event, Generation, GenerationState
from easel.client.outage import OnOutage

if TYPE_CHECKING:
    from easel.cli.picture import Gallery

#: Begins a generation, or finds one, and yields what happens to it.
Source: TypeAlias = Callable[[Client, OnOutage], AsyncGenerator[Event, None]]


class NotDrawn(EaselError):
    """The generation came to its end without a picture."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        why = f": {generation.failure.message}" if generation.HasField("failure") else ""
        #: What came of it, in words that may hold for others too.
        self.outcome = state_name(generation) + why
        super().__init__(f"generation {generation.id} is {self.outcome}")


class NotWritten(EaselError):
    """A file could not be written where it should go."""

    def __init__(self, state: str, path: Path, error: OSError) -> None:
        super().__init__(f"{state}, but {path} cannot be written: {error.strerror or error}")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What shall come of a generation besides the generation itself."""

    #: Where its pictures go: a file, or an existing folder; `out/ID.png` when None. Several get numbers.
    out: Path | None = None
    #: Whether its pictures are downloaded.
    download: bool = True
    #: The folder for its previews, if they are wanted.
    previews: Path | None = None
    #: Shows pictures in the terminal, if that is wanted.
    gallery: "Gallery | None" = None

    def check(self) -> None:
        """Make sure that everything can be written where it should go.

        Raises:
            typer.BadParameter: it cannot.
        """
        if self.download:
            destination.check(self.out)
        if self.previews is not None:
            destination.check_folder(self.previews, option="--preview")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A generation that succeeded, and where its files lie now."""

    generation: Generation
    paths: tuple[Path, ...]
    previews: tuple[Path, ...]
    #: From the call until the last file was written.
    wall_seconds: float


def run_drawing(source: Source, *, target: str, wishes: Wishes, request_id: str, as_json: bool) -> None:
    """Draw one generation as a command.

    Raises:
        typer.BadParameter: something cannot be written where it should go.
        typer.Exit: it failed or was interrupted, and one line was printed that says so.
    """
    wishes.check()
    with repeatable(request_id):
        if as_json:
            run(_draw_as_json(source, target=target, wishes=wishes, request_id=request_id), target=target)
        else:
            run(draw(source, target=target, wishes=wishes, console=Output()), target=target)


@contextlib.contextmanager
def repeatable(request_id: str) -> Iterator[None]:
    """Say on Ctrl-C and on SIGTERM with which command the same generations are found again.

    Raises:
        typer.Exit: on either.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        complain(f"interrupted, but the service goes on; to get the picture: {_again(request_id)}")
        raise error if isinstance(error, Terminated) else typer.Exit(INTERRUPTED) from None


async def draw(source: Source, *, target: str, wishes: Wishes, console: Console) -> Drawn:
    """Draw one generation, show every step of it on a console, and download its pictures.

    Args:
        source: Begins it.
        target: The gateway, `host:port`.
        wishes: What shall come of it.
        console: Gets a moving bar if it is a terminal, and plain lines otherwise; nothing when it is quiet.

    Raises:
        NotDrawn: the generation FAILED, EXPIRED or was CANCELLED.
        NotWritten: a file could not be written.
        EaselError: the service refused, or stayed out of reach.
    """
    gallery = wishes.gallery
    async with Client(target) as client:
        draw_preview = None if gallery is None else gallery.draw_preview
        with display_on(console, models=await client.list_models(), draw_preview=draw_preview) as display:
            drawn = await finish(client, source(client, display.outage), display=display, wishes=wishes)
        if gallery is not None:
            await exhibit(client, drawn.generation, paths=drawn.paths, gallery=gallery)
    show_drawn(console, drawn.generation, paths=drawn.paths, wall_seconds=drawn.wall_seconds)
    return drawn


async def finish(client: Client, events: AsyncGenerator[Event, None], *, display: Display, wishes: Wishes) -> Drawn:
    """Follow a generation to its end, and download what it made.

    Raises:
        NotDrawn: the generation FAILED, EXPIRED or was CANCELLED.
        NotWritten: a file could not be written.
        EaselError: the service refused, or stayed out of reach.
    """
    began = time.monotonic()
    try:
        generation, previews = await _follow(events, display=display, folder=wishes.previews)
        paths: tuple[Path, ...] = ()
        if wishes.download:
            display.downloading()
            paths = await fetch(client, generation, wishes.out)
    except EaselError as error:
        display.failed(error)
        raise
    display.done(generation, paths)
    wall_seconds = time.monotonic() - began
    return Drawn(generation=generation, paths=paths, previews=previews, wall_seconds=wall_seconds)


async def fetch(client: Client, generation: Generation, out: Path | None) -> tuple[Path, ...]:
    """Download the pictures of a generation that has SUCCEEDED.

    Raises:
        NotWritten: a file could not be written.
        EaselError: a picture could not be fetched.
    """
    paths = destination.place(generation, out)
    for image, path in zip(generation.images, paths, strict=True):
        try:
            await client.download(generation, path, index=image.index)
        except OSError as error:
            raise NotWritten(f"generation {generation.id} is drawn", path, error) from error
    return paths


async def exhibit(client: Client, generation: Generation, *, paths: Sequence[Path], gallery: "Gallery") -> None:
    """Show the pictures of a generation in the terminal; those that were not downloaded are, for that moment."""
    if paths:
        gallery.show(paths)
        return
    with tempfile.TemporaryDirectory(prefix="easel-") as folder:
        gallery.show(await fetch(client, generation, Path(folder)))


def keep_preview(event: Event, folder: Path) -> Path:
    """Write the preview of an event into a folder.

    Raises:
        NotWritten: it could not be written.
    """
    assert event.preview is not None  # noqa: S101  # for the type checker
    path = destination.place_preview(event.generation, event.preview, folder)
    try:
        path.write_bytes(event.preview.data)
    except OSError as error:
        raise NotWritten(f"generation {event.generation.id} goes on", path, error) from error
    return path


async def _follow(
    events: AsyncGenerator[Event, None], *, display: Display, folder: Path | None
) -> tuple[Generation, tuple[Path, ...]]:
    generation, previews = Generation(), []
    async with contextlib.aclosing(events):
        async for event in events:
            display.show(event)
            generation = event.generation
            if event.preview is not None and folder is not None:
                previews.append(keep_preview(event, folder))
    if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
        raise NotDrawn(generation)
    return generation, tuple(previews)


async def _draw_as_json(source: Source, *, target: str, wishes: Wishes, request_id: str) -> None:
    try:
        drawn = await draw(source, target=target, wishes=wishes, console=Output(quiet=True))
    except NotDrawn as error:
        print_json(describe(error.generation, request_id=request_id))
        raise
    print_json(describe_drawn(drawn, request_id=request_id))


def describe_drawn(drawn: Drawn, *, request_id: str) -> dict[str, object]:
    """Describe for machines what was drawn."""
    return describe(
        drawn.generation,
        paths=drawn.paths,
        previews=[str(path) for path in drawn.previews],
        request_id=request_id,
        wall_seconds=round(drawn.wall_seconds, 6),
    )


def _again(request_id: str) -> str:
    """Repeat the command that was given, in a way that finds the same generation."""
    given = sys.argv[1:]
    known = any(argument.split("=")[0] == "--request-id" for argument in given)
    return shlex.join(["easel", *given, *([] if known else ["--request-id", request_id])])

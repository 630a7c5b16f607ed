"""`easel generate`: from a prompt to a file, with everything shown that happens in between."""

import json
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from easel.cli import destination, terminal
from easel.cli.exits import INTERRUPTED, complain
from easel.cli.run import run
from easel.client import Client, EaselError, Generation, GenerationSpec, GenerationState, ImageFormat, OutputSpec
from easel.v1.generation_pb2 import FailureReason


class NotDrawn(EaselError):
    """The generation came to its end without a picture."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        why = f": {generation.failure.message}" if generation.HasField("failure") else ""
        super().__init__(f"generation {generation.id} is {terminal.state_name(generation)}{why}")


class NotWritten(EaselError):
    """The picture was drawn, and could not be written where it should go."""

    def __init__(self, generation: Generation, path: Path, error: OSError) -> None:
        why = error.strerror or str(error)
        super().__init__(f"generation {generation.id} is drawn, but {path} cannot be written: {why}")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A generation that succeeded, and where its pictures lie now."""

    generation: Generation
    request_id: str
    paths: tuple[Path, ...]
    #: From the call until the last file was written.
    wall_seconds: float


def make_spec(
    *,
    prompt: str,
    model: str = "",
    steps: int | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    scheduler: str = "",
    image_count: int | None = None,
    image_format: str = "",
    timeout_seconds: float | None = None,
) -> GenerationSpec:
    """Make a spec that says what was given and nothing else."""
    return GenerationSpec(
        model=model,
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        image_count=image_count,
        scheduler=scheduler,
        output=OutputSpec(format=ImageFormat.Value(f"IMAGE_FORMAT_{image_format.upper()}")) if image_format else None,
        timeout=None if timeout_seconds is None else _duration(timeout_seconds),
    )


def generate(spec: GenerationSpec, *, target: str, out: Path | None, request_id: str, as_json: bool) -> None:
    """Run the command.

    Raises:
        typer.BadParameter: nothing can be written at `out`.
        typer.Exit: it failed or was interrupted, and one line was printed that says so.
    """
    destination.check(out)
    request_id = request_id or uuid.uuid4().hex
    command = _draw_as_json if as_json else _draw_for_people
    try:
        run(command(target=target, spec=spec, out=out, request_id=request_id), target=target)
    except KeyboardInterrupt:
        complain(f"interrupted, but the service goes on; to get the picture: {_again(request_id)}")
        raise typer.Exit(INTERRUPTED) from None


async def draw(*, target: str, spec: GenerationSpec, out: Path | None, console: Console, request_id: str = "") -> Drawn:
    """Draw what a spec asks for, show every step of it on a console, and download the pictures.

    Args:
        target: The gateway, `host:port`.
        spec: What to draw.
        out: A file, or an existing folder; `out/ID.png` when None. Several pictures get numbers: `castle-0.png`.
        console: Gets a moving bar if it is a terminal, and plain lines otherwise; nothing when it is quiet.
        request_id: Sent again with the same spec, it gives the same generation.

    Raises:
        NotDrawn: the generation FAILED, EXPIRED or was CANCELLED.
        NotWritten: a file could not be written.
        EaselError: the service refused, or stayed out of reach.
    """
    began = time.monotonic()
    request_id = request_id or uuid.uuid4().hex
    async with Client(target) as client:
        with terminal.display_on(console, models=await client.list_models()) as display:
            generation = await _watch(client, spec, request_id=request_id, display=display)
            display.downloading()
            paths = await _download(client, generation, out)
            display.done()
    wall_seconds = time.monotonic() - began
    terminal.show_drawn(console, generation, paths=paths, wall_seconds=wall_seconds)
    return Drawn(generation=generation, request_id=request_id, paths=paths, wall_seconds=wall_seconds)


async def _watch(client: Client, spec: GenerationSpec, *, request_id: str, display: terminal.Display) -> Generation:
    generation = Generation()
    async for event in client.generate(spec, request_id=request_id, on_outage=display.outage):
        display.show(event)
        generation = event.generation
    if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
        raise NotDrawn(generation)
    return generation


async def _download(client: Client, generation: Generation, out: Path | None) -> tuple[Path, ...]:
    paths = destination.place(generation, out)
    for image, path in zip(generation.images, paths, strict=True):
        try:
            await client.download(generation, path, index=image.index)
        except OSError as error:
            raise NotWritten(generation, path, error) from error
    return paths


async def _draw_for_people(*, target: str, spec: GenerationSpec, out: Path | None, request_id: str) -> None:
    await draw(target=target, spec=spec, out=out, console=Console(highlight=False), request_id=request_id)


async def _draw_as_json(*, target: str, spec: GenerationSpec, out: Path | None, request_id: str) -> None:
    try:
        drawn = await draw(target=target, spec=spec, out=out, console=Console(quiet=True), request_id=request_id)
    except NotDrawn as error:
        print(json.dumps(describe(error.generation, request_id=request_id)))
        raise
    described = describe(drawn.generation, request_id=request_id, paths=drawn.paths)
    print(json.dumps(described | {"wall_seconds": round(drawn.wall_seconds, 6)}))


def describe(generation: Generation, *, request_id: str, paths: Sequence[Path] = ()) -> dict[str, object]:
    """Describe a final generation for machines."""
    images = [
        {
            "path": str(path),
            "seed": image.seed,
            "width": image.width,
            "height": image.height,
            "content_type": image.content_type,
            "size_bytes": image.size_bytes,
            "sha256": image.sha256,
        }
        for image, path in zip(generation.images, paths, strict=True)
    ]
    failure = generation.failure
    return {
        "id": generation.id,
        "request_id": request_id,
        "state": terminal.state_name(generation),
        "model": generation.resolved_spec.model,
        "seed": generation.resolved_spec.seed,
        "steps": generation.resolved_spec.steps,
        "attempt_count": generation.attempt_count,
        "phase_seconds": terminal.phase_seconds(generation),
        "images": images,
        "failure": {
            "reason": FailureReason.Name(failure.reason).removeprefix("FAILURE_REASON_"),
            "message": failure.message,
            "retryable": failure.retryable,
        }
        if generation.HasField("failure")
        else None,
    }


def _duration(duration_seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(duration_seconds * 1e9))
    return duration


def _again(request_id: str) -> str:
    """Repeat the command that was given, in a way that finds the same generation."""
    given = sys.argv[1:]
    known = any(argument.split("=")[0] == "--request-id" for argument in given)
    return shlex.join(["easel", *given, *([] if known else ["--request-id", request_id])])

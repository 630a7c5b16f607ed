"""`easel generate` with one prompt, and the spec that its options make."""

import uuid
from collections.abc import AsyncGenerator, Mapping

import typer
from google.protobuf.duration_pb2 import Duration

from easel.cli.drawing import Source, Wishes, run_drawing
from easel.client import Client, Event, GenerationSpec, ImageFormat, OutputSpec, PreviewSpec
from easel.client.outage import OnOutage


def make_spec(
    *,
    prompt: str = "",
    model: str = "",
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int | None = None,
    image_count: int | None = None,
    scheduler: str = "",
    image_format: str = "",
    quality: int | None = None,
    embed_parameters: bool | None = None,
    preview_every: int | None = None,
    timeout_seconds: float | None = None,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
) -> GenerationSpec:
    """Make a spec that says what was given and nothing else.

    Raises:
        typer.BadParameter: a number is larger than any that can be sent.
    """
    try:
        output = OutputSpec(
            format=ImageFormat.Value(f"IMAGE_FORMAT_{image_format.upper() or 'UNSPECIFIED'}"),
            quality=quality,
            embed_parameters=embed_parameters,
        )
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
            output=output if output.ListFields() else None,
            preview=None if preview_every is None else PreviewSpec(every_steps=preview_every),
            timeout=None if timeout_seconds is None else _duration(timeout_seconds),
            priority=priority,
            labels=labels,
        )
    except UnicodeEncodeError:
        raise
    except ValueError as error:  # protobuf's words name the number
        raise typer.BadParameter(str(error)) from error


def draw_one(spec: GenerationSpec, *, target: str, wishes: Wishes, request_id: str, as_json: bool) -> None:
    """Run the command.

    Raises:
        typer.BadParameter: something cannot be written where it should go.
        typer.Exit: it failed or was interrupted, and one line was printed that says so.
    """
    request_id = request_id or uuid.uuid4().hex
    run_drawing(generating(spec, request_id), target=target, wishes=wishes, request_id=request_id, as_json=as_json)


def generating(spec: GenerationSpec, request_id: str = "") -> Source:
    """Begin a generation out of a spec."""

    def begin(client: Client, on_outage: OnOutage) -> AsyncGenerator[Event, None]:
        return client.generate(spec, request_id=request_id or None, on_outage=on_outage)

    return begin


def _duration(duration_seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(duration_seconds * 1e9))
    return duration

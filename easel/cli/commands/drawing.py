"""The commands that draw."""

from pathlib import Path
from typing import Annotated

import typer

from easel.cli.arguments import (
    DEFAULT_TARGET,
    FILES,
    REQUEST,
    Format,
    Json,
    Labels,
    Out,
    Previews,
    RequestId,
    Show,
    ShowAsOption,
    Target,
    open_gallery,
    seconds,
)
from easel.cli.installed import needs_local

PICTURE = "The picture"

#: The steps from one preview to the next, unless told otherwise.
PREVIEW_EVERY = 5

#: So many generations are watched at once, unless told otherwise.
AT_ONCE = 16

commands = typer.Typer()


@commands.command(rich_help_panel="Draw")
def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the picture shows.", show_default=False)
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Draw each line of a file, or of standard input for `-`."),
    ] = None,
    negative: Annotated[
        str, typer.Option(metavar="TEXT", help="What the picture should avoid.", rich_help_panel=PICTURE)
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model; needed where there are several.", rich_help_panel=PICTURE)
    ] = "",
    width: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=PICTURE)] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=PICTURE)] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=PICTURE)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How strongly to follow the prompt.", rich_help_panel=PICTURE)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed; drawn at random when absent.", rich_help_panel=PICTURE)
    ] = None,
    scheduler: Annotated[str, typer.Option(metavar="NAME", help="The noise scheduler.", rich_help_panel=PICTURE)] = "",
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="How many pictures of a prompt.", rich_help_panel=PICTURE)
    ] = None,
    out: Out = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="The file format; else --out's suffix says.", rich_help_panel=FILES),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Quality of JPEG and WebP, 1 to 100.", rich_help_panel=FILES)
    ] = None,
    no_metadata: Annotated[
        bool,
        typer.Option("--no-metadata", metavar="", help="Keep the parameters out of the file.", rich_help_panel=FILES),
    ] = False,
    preview: Previews = None,
    preview_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="STEPS",
            help=f"Steps from one preview to the next; {PREVIEW_EVERY} when absent.",
            rich_help_panel=FILES,
        ),
    ] = None,
    show: Show = False,
    show_as: ShowAsOption = None,
    labels: Labels = None,
    priority: Annotated[int, typer.Option(help="Higher ones start first, -100 to 100.", rich_help_panel=REQUEST)] = 0,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="DURATION", parser=seconds, help="Let it expire after 90, 10min, 2h …", rich_help_panel=REQUEST
        ),
    ] = None,
    request_id: RequestId = "",
    at_once: Annotated[
        int, typer.Option(min=1, help="Of several prompts, draw so many at once.", rich_help_panel=REQUEST)
    ] = AT_ONCE,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Draw a picture of a prompt, or of each line of a file, and download it."""
    from easel.cli.destination import choose_format
    from easel.cli.drawing import Wishes
    from easel.cli.generate import draw_one, make_spec
    from easel.cli.prompts import read
    from easel.cli.several import check_folder, draw_several

    if (prompt is None) == (file is None):
        raise typer.TyperException("give either a PROMPT or --from FILE")
    if preview_every is not None and preview is None and not (show or show_as):
        raise typer.BadParameter("goes with --preview or --show", param_hint="--preview-every")
    if file is not None and (show or show_as):
        raise typer.BadParameter("goes with a single PROMPT", param_hint="--show")
    spec = make_spec(
        prompt=prompt or "",
        model=model,
        negative_prompt=negative,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=guidance,
        seed=seed,
        image_count=count,
        scheduler=scheduler,
        image_format=choose_format(out, asked=output_format or ""),
        quality=quality,
        embed_parameters=False if no_metadata else None,
        preview_every=preview_every or (PREVIEW_EVERY if preview else None),
        timeout_seconds=timeout,
        priority=priority,
        labels=dict(labels or ()),
    )
    if file is None:
        gallery = open_gallery(show=show, show_as=show_as, as_json=as_json)
        wishes = Wishes(out=out, previews=preview, gallery=gallery)
        draw_one(spec, target=target, wishes=wishes, request_id=request_id, as_json=as_json)
    else:
        wishes = Wishes(out=check_folder(out), previews=preview)
        draw_several(
            spec, read(file), target=target, wishes=wishes, request_id=request_id, at_once=at_once, as_json=as_json
        )


@commands.command(rich_help_panel="Draw")
def demo(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")] = "a sunset over a beach",
    *,
    out: Out = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed; drawn at random when absent.")] = None,
    data: Annotated[Path, typer.Option(help="The folder of the demo's stack.")] = Path(".easel/demo"),
) -> None:
    """Start the whole service here, draw one picture, and stop it again."""
    needs_local("demo")
    from easel.cli import demo as command
    from easel.cli.destination import choose_format
    from easel.cli.generate import make_spec

    spec = make_spec(prompt=prompt, steps=steps, seed=seed, image_format=choose_format(out))
    command.demo(spec, out=out, folder=data)


@commands.command(rich_help_panel="Draw")
def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them.", show_default=False)] = None,
    *,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """List the models, with their defaults and ranges."""
    from easel.cli import models as command

    command.models(name, target=target, as_json=as_json)

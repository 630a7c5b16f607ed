"""`easel get` and `easel url`: a generation as it stands, and where its pictures are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from easel.cli import destination
from easel.cli.description import describe, describe_images, print_json
from easel.cli.drawing import NotDrawn, exhibit, fetch
from easel.cli.run import run
from easel.cli.tables import show_generation
from easel.cli.terminal import Output
from easel.client import Client, Generation, GenerationState, Image

if TYPE_CHECKING:
    from easel.cli.picture import Gallery


def get(generation_id: str, *, target: str, out: Path | None, gallery: "Gallery | None", as_json: bool) -> None:
    """Run `easel get`; with `out` or a gallery it wants pictures.

    Raises:
        typer.BadParameter: nothing can be written at `out`.
        typer.Exit: it failed, and one line was printed that says how.
    """
    if out is not None:
        destination.check(out)
    generation, paths = run(_get(generation_id, target=target, out=out, gallery=gallery), target=target)
    if as_json:
        print_json(describe(generation, paths=paths))
    else:
        show_generation(Output(), generation, paths=paths)


def url(generation_id: str, *, target: str, lifetime_seconds: int | None, as_json: bool) -> None:
    """Run `easel url`.

    Raises:
        typer.Exit: it failed, and one line was printed that says how.
    """
    images = run(_sign(generation_id, target=target, lifetime_seconds=lifetime_seconds), target=target)
    if as_json:
        print_json({"id": generation_id, "images": describe_images(images)})
    else:
        for image in images:
            print(image.url)


async def _get(
    generation_id: str, *, target: str, out: Path | None, gallery: "Gallery | None"
) -> tuple[Generation, tuple[Path, ...]]:
    async with Client(target) as client:
        generation = await client.get(generation_id)
        if out is None and gallery is None:
            return generation, ()
        if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
            raise NotDrawn(generation)
        paths = () if out is None else await fetch(client, generation, out)
        if gallery is not None:
            await exhibit(client, generation, paths=paths, gallery=gallery)
        return generation, paths


async def _sign(generation_id: str, *, target: str, lifetime_seconds: int | None) -> Sequence[Image]:
    async with Client(target) as client:
        return await client.sign_image_urls(generation_id, lifetime_seconds=lifetime_seconds)

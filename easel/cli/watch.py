"""`easel watch`: what happens to a generation, from now until its end."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from easel.cli.description import describe_event, print_json
from easel.cli.drawing import NotDrawn, Source, Wishes, draw, fetch, keep_preview
from easel.cli.run import run
from easel.cli.terminal import Output
from easel.client import Client, Event, GenerationState
from easel.client.outage import OnOutage


def watch(generation_id: str, *, target: str, wishes: Wishes, as_json: bool) -> None:
    """Run the command; for machines it prints one object for each thing that happens.

    Raises:
        typer.BadParameter: something cannot be written where it should go.
        typer.Exit: it failed, or the generation did, and one line was printed that says so.
    """
    wishes.check()
    if as_json:
        run(_print_events(generation_id, target=target, wishes=wishes), target=target)
    else:
        run(draw(watching(generation_id), target=target, wishes=wishes, console=Output()), target=target)


def watching(generation_id: str) -> Source:
    """Watch a generation that is there already."""

    def begin(client: Client, on_outage: OnOutage) -> AsyncGenerator[Event, None]:
        return client.watch(generation_id, on_outage=on_outage)

    return begin


async def _print_events(generation_id: str, *, target: str, wishes: Wishes) -> None:
    async with Client(target) as client, contextlib.aclosing(client.watch(generation_id)) as events:
        # A watch waits for a service that is away; one that was never there is worth a word at once.
        generation = await client.get(generation_id)
        async for event in events:
            print_json(await _describe(client, event, wishes=wishes))
            generation = event.generation
    if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
        raise NotDrawn(generation)


async def _describe(client: Client, event: Event, *, wishes: Wishes) -> dict[str, object]:
    """Keep what an event brings, as far as it is wanted, and describe it with the paths."""
    preview_path: Path | None = None
    paths: tuple[Path, ...] = ()
    if event.preview is not None and wishes.previews is not None:
        preview_path = keep_preview(event, wishes.previews)
    elif event.is_final and event.generation.images and wishes.download:
        paths = await fetch(client, event.generation, wishes.out)
    return describe_event(event, preview_path=preview_path, paths=paths)

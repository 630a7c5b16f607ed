"""`easel retry`: what a generation asked for, drawn anew."""

import contextlib
import uuid
from collections.abc import AsyncGenerator

from easel.cli.description import describe, print_json
from easel.cli.drawing import Source, Wishes, run_drawing
from easel.cli.run import run
from easel.client import Client, Event, Generation
from easel.client.outage import OnOutage


def retry(generation_id: str, *, target: str, wishes: Wishes, request_id: str, wait: bool, as_json: bool) -> None:
    """Run the command.

    Raises:
        typer.BadParameter: something cannot be written where it should go.
        typer.Exit: it failed or was interrupted, and one line was printed that says so.
    """
    request_id = request_id or uuid.uuid4().hex
    if wait:
        source = retrying(generation_id, request_id=request_id)
        run_drawing(source, target=target, wishes=wishes, request_id=request_id, as_json=as_json)
        return
    generation = run(_accept(generation_id, target=target, request_id=request_id), target=target)
    if as_json:
        print_json(describe(generation, request_id=request_id))
    else:
        print(generation.id)


def retrying(generation_id: str, *, request_id: str) -> Source:
    """Begin a generation out of one that is final."""

    async def begin(client: Client, on_outage: OnOutage) -> AsyncGenerator[Event, None]:
        generation = await client.retry(generation_id, request_id=request_id)
        async with contextlib.aclosing(client.watch(generation.id, on_outage=on_outage)) as events:
            async for event in events:
                yield event

    return begin


async def _accept(generation_id: str, *, target: str, request_id: str) -> Generation:
    async with Client(target) as client:
        return await client.retry(generation_id, request_id=request_id)

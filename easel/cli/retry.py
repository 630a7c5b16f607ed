"""`easel retry`: what a generation asked for, or each of many, drawn anew."""

import contextlib
import uuid
from collections.abc import AsyncGenerator

from easel.cli.description import describe, print_json
from easel.cli.drawing import Source, Wishes, run_drawing
from easel.cli.each import do_to_each, make_sure
from easel.cli.run import run
from easel.cli.terminal import Output, state_name
from easel.client import Client, Event, Filters, Generation, GenerationState
from easel.client.outage import OnOutage

#: What the service sends at once.
PAGE_SIZE = 1_000


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


def retry_all(filters: Filters, *, target: str, sure: bool, as_json: bool) -> None:
    """Run the command for all generations that filters find, the oldest first, without waiting for any.

    Each has a request_id that is made of its id: running it again draws nothing twice.

    Raises:
        typer.Exit: nothing shall be retried after all; or some or all failed, and a line was printed for each.
    """
    generation_ids = run(_find(filters, target=target), target=target)
    if not generation_ids and not as_json:
        Output().print("Nothing is found.")
    if not generation_ids:
        return
    count = len(generation_ids)
    question = "Retry the generation?" if count == 1 else f"Retry {count} generations?"
    make_sure(question, sure=sure, otherwise="nothing was retried")

    async def deed(client: Client, generation_id: str) -> None:
        request_id = f"retry-{generation_id}"
        generation = await client.retry(generation_id, request_id=request_id)
        if as_json:
            print_json(describe(generation, request_id=request_id))
        elif generation.state == GenerationState.GENERATION_STATE_QUEUED:
            print("retried", generation_id, "as", generation.id)
        else:
            print("retried", generation_id, "as", generation.id, f"({state_name(generation)} already)")

    do_to_each(deed, generation_ids, target=target)


async def _find(filters: Filters, *, target: str) -> list[str]:
    async with Client(target) as client, contextlib.aclosing(client.list(page_size=PAGE_SIZE, **filters)) as found:
        return [generation.id async for generation in found][::-1]


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

"""`easel cancel` and `easel delete`: the end of generations, one after another whatever becomes of the others."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import typer

from easel.cli.description import describe, print_json
from easel.cli.exits import NO_PICTURE, complain
from easel.cli.run import run, say, status_of
from easel.cli.terminal import state_name
from easel.client import Client, EaselError, GenerationState, Unavailable

#: Does what is to be done to one generation, and prints that it was done.
Deed: TypeAlias = Callable[[Client, str], Awaitable[None]]


def cancel(generation_ids: Sequence[str], *, target: str, as_json: bool) -> None:
    """Run `easel cancel`.

    Raises:
        typer.Exit: some or all failed, and a line was printed for each.
    """

    async def deed(client: Client, generation_id: str) -> None:
        generation = await client.cancel(generation_id)
        if as_json:
            print_json(describe(generation))
        elif generation.state == GenerationState.GENERATION_STATE_CANCELLED:
            print("cancelled", generation_id)
        else:
            print("unchanged", generation_id, f"({state_name(generation)} already)")

    _do_to_all(deed, generation_ids, target=target)


def delete(generation_ids: Sequence[str], *, target: str, immediately: bool, sure: bool, as_json: bool) -> None:
    """Run `easel delete`; on a terminal it asks first, unless it is sure.

    Raises:
        typer.Exit: nothing shall be deleted after all; or some or all failed, and a line was printed for each.
    """
    if not sure and sys.stdin.isatty() and not _confirm(len(generation_ids)):
        complain("nothing was deleted")
        raise typer.Exit(NO_PICTURE)

    async def deed(client: Client, generation_id: str) -> None:
        await client.delete(generation_id, immediately=immediately)
        if as_json:
            print_json({"id": generation_id, "deleted": True})
        else:
            print("deleted", generation_id)

    _do_to_all(deed, generation_ids, target=target)


def _confirm(count: int) -> bool:
    what = "the generation and its pictures" if count == 1 else f"{count} generations and their pictures"
    return typer.confirm(f"Delete {what}, for good?", err=True)


def _do_to_all(deed: Deed, generation_ids: Sequence[str], *, target: str) -> None:
    statuses = run(_try_all(deed, generation_ids, target=target), target=target)
    if statuses:
        raise typer.Exit(statuses.pop() if len(statuses) == 1 else NO_PICTURE)


async def _try_all(deed: Deed, generation_ids: Sequence[str], *, target: str) -> set[int]:
    """Do it to one after another; complain of those that fail, and return their exit statuses."""
    statuses = set()
    async with Client(target) as client:
        for generation_id in generation_ids:
            try:
                await deed(client, generation_id)
            except Unavailable:
                raise  # for the others, too
            except EaselError as error:
                about = f"{generation_id}: " if len(generation_ids) > 1 else ""
                complain(about + say(error, target=target))
                statuses.add(status_of(error))
    return statuses

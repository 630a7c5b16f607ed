"""One thing done to many generations, one after another, whatever becomes of the others."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import typer

from easel.cli.exits import NO_PICTURE, complain
from easel.cli.run import run, say, status_of
from easel.client import Client, EaselError, Exhausted, Unavailable

#: Does what is to be done to one generation, and prints that it was done.
Deed: TypeAlias = Callable[[Client, str], Awaitable[None]]


def make_sure(question: str, *, sure: bool, otherwise: str) -> None:
    """Ask whether to go on, unless that is sure or there is nobody to ask.

    Raises:
        typer.Exit: the answer was no, and a line was printed that says what was not done.
    """
    if not sure and sys.stdin.isatty() and not typer.confirm(question, err=True):
        complain(otherwise)
        raise typer.Exit(NO_PICTURE)


def do_to_each(deed: Deed, generation_ids: Sequence[str], *, target: str) -> None:
    """Do something to each of these generations.

    Raises:
        typer.Exit: some or all failed, and a line was printed for each; or the service takes no more at present, which
            one line says for all that are left.
    """
    statuses = run(_try_each(deed, generation_ids, target=target), target=target)
    if statuses:
        raise typer.Exit(statuses.pop() if len(statuses) == 1 else NO_PICTURE)


async def _try_each(deed: Deed, generation_ids: Sequence[str], *, target: str) -> set[int]:
    """Do it to one after another; complain of those that fail, and return their exit statuses."""
    statuses = set()
    async with Client(target) as client:
        for generation_id in generation_ids:
            try:
                await deed(client, generation_id)
            except (Unavailable, Exhausted):
                raise  # for the others, too
            except EaselError as error:
                about = f"{generation_id}: " if len(generation_ids) > 1 else ""
                complain(about + say(error, target=target))
                statuses.add(status_of(error))
    return statuses

"""`easel list`: generations, newest first."""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from easel.cli.description import describe, print_json
from easel.cli.run import run
from easel.cli.terminal import (
    ACCENT,
    MUTED,
    Output,
    age,
    failure_name,
    shortened,
    show_table,
    state_text,
)
from easel.client import Client, FailureReason, Filters, Generation, GenerationState

#: Where no terminal shortens a prompt, this does.
LONGEST_PROMPT = 80

#: What the service sends at once.
PAGE_SIZE = 100


def make_filters(
    *,
    states: Iterable[str],
    models: Iterable[str],
    reasons: Iterable[str],
    labels: Iterable[tuple[str, str]],
    after: datetime | None,
    before: datetime | None,
) -> Filters:
    """Put what the command line names into filters."""
    filters = Filters(
        states=[GenerationState.Value(f"GENERATION_STATE_{state.upper()}") for state in states],
        models=models,
        failure_reasons=[FailureReason.Value(f"FAILURE_REASON_{_constant(reason)}") for reason in reasons],
        labels=dict(labels),
    )
    if after is not None:
        filters["created_after"] = after
    if before is not None:
        filters["created_before"] = before
    return filters


def list_generations(filters: Filters, *, target: str, limit: int, as_json: bool) -> None:
    """Run the command; a limit of 0 is none.

    Raises:
        typer.Exit: it failed, and one line was printed that says how.
    """
    if as_json:
        run(_print_all(filters, target=target, limit=limit), target=target)
        return
    found = run(_collect(filters, target=target, limit=limit), target=target)
    console = Output()
    if not found:
        console.print("Nothing is found.")
        return
    show_table(console, table(found[:limit] if limit else found))
    if limit and len(found) > limit:
        console.print(Text(f"There are more than these {limit}; --limit shows them.", style=MUTED))


def table(generations: list[Generation]) -> Table:
    """Lay out generations, one a line."""
    result = Table(box=SIMPLE_HEAD, header_style=MUTED, pad_edge=False)
    for name in ("id", "state", "model", "age"):
        result.add_column(name, no_wrap=True, justify="right" if name == "age" else "left")
    # The only one that may be wrapped is made narrower where there is too little room; its cells are cut, not wrapped.
    result.add_column("prompt")
    for generation in generations:
        spec = generation.resolved_spec
        result.add_row(
            Text(generation.id, style=ACCENT),
            _state(generation),
            Text(spec.model),
            age(generation.create_time),
            Text(shortened(spec.prompt, LONGEST_PROMPT), no_wrap=True, overflow="ellipsis"),
        )
    return result


def _constant(name: str) -> str:
    return name.upper().replace("-", "_")


def _state(generation: Generation) -> Text:
    if not generation.HasField("failure"):
        return state_text(generation)
    reason = failure_name(generation.failure).lower().replace("_", " ")
    return Text.assemble(state_text(generation), (f" {reason}", MUTED))


async def _print_all(filters: Filters, *, target: str, limit: int) -> None:
    async with contextlib.aclosing(_first(filters, target=target, limit=limit)) as generations:
        async for generation in generations:
            print_json(describe(generation))


async def _collect(filters: Filters, *, target: str, limit: int) -> list[Generation]:
    """Fetch as many as are shown, and one more, which tells whether there are more."""
    async with contextlib.aclosing(_first(filters, target=target, limit=limit + 1 if limit else 0)) as generations:
        return [generation async for generation in generations]


async def _first(filters: Filters, *, target: str, limit: int) -> AsyncGenerator[Generation, None]:
    page_size = min(limit, PAGE_SIZE) if limit else PAGE_SIZE
    async with Client(target) as client, contextlib.aclosing(client.list(page_size=page_size, **filters)) as found:
        count = 0
        async for generation in found:
            yield generation
            count += 1
            if count == limit:
                return

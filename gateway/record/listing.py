"""Reading many generations: filters, and pages that new generations do not disturb."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    any_,
    case,
    literal,
    literal_column,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from gateway.record.database import Database
from gateway.record.generation import Generation, State, StoredAttempt
from gateway.record.tables import generations

#: Ids begin with their time, which is at most so much later than the `create_time` of their row.
ID_DELAY = timedelta(minutes=1)
#: The bits of a UUIDv7 behind its time in milliseconds.
TIME_SHIFT = 80

# In the very words of their indexes, or those would not serve.
_LABELLED = text("spec -> 'labels' @> CAST(:labels AS jsonb) AND spec ? 'labels'")
_FAILED: ColumnElement[str] = literal_column("'FAILED'")
_FAILED_FOR: ColumnElement[str] = literal_column("failure ->> 'reason'")

# A row without an attempt tells that there is the generation, and no attempt at it.
_ATTEMPTS = text("""
    SELECT number, worker_id, outcome, attempts.failure, progress, alone, attempts.start_time, attempts.end_time
    FROM generations LEFT JOIN attempts ON generation_id = id AND number > :after
    WHERE id = :id AND owner = :owner AND delete_time IS NULL
    ORDER BY number LIMIT :limit
""")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which generations to list; what is empty or None does not matter."""

    states: Sequence[State] = ()
    models: Sequence[str] = ()
    #: Names of `easel.v1.FailureReason`.
    failure_reasons: Sequence[str] = ()
    #: All of them, with these values.
    labels: Mapping[str, str] | None = None
    #: At or after.
    created_after: datetime | None = None
    created_before: datetime | None = None


class Listing:
    """Lists of generations, and of the attempts at one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_generations(
        self, which: Filter, *, owner: str, before_id: str | None, limit: int
    ) -> Sequence[Generation]:
        """Read generations, newest first, without their progress.

        Args:
            which: The filter.
            owner: Whose.
            before_id: The last of the page before. Ids sort by the time of acceptance, so that whatever is accepted
                while somebody turns the pages comes before the first one.
            limit: How many at most.
        """
        page = _page(which, owner=owner, before_id=before_id, limit=limit)
        if page is None:
            return []
        rows = (await self._database.execute(page)).mappings().all()
        # A long page takes a third of a second to read, which nobody else should have to wait for.
        return await asyncio.to_thread(_read, rows)

    async def list_attempts(
        self, generation_id: str, *, owner: str, after: int, limit: int
    ) -> Sequence[StoredAttempt] | None:
        """Read the attempts at a generation in order; None if there is no such generation.

        Args:
            generation_id: The generation.
            owner: Whose.
            after: The last of the page before; 0 for the first page.
            limit: How many at most.
        """
        parameters = {"id": generation_id, "owner": owner, "after": after, "limit": limit}
        rows = (await self._database.execute(_ATTEMPTS, parameters)).mappings().all()
        if not rows:
            return None
        return [StoredAttempt.from_row(row) for row in rows if row["number"] is not None]


def _read(rows: Sequence[Mapping[Any, Any]]) -> list[Generation]:
    return [Generation.from_row({**row, "progress": None}) for row in rows]


def _page(which: Filter, *, owner: str, before_id: str | None, limit: int) -> Select[tuple[object, ...]] | None:
    """Ask for a page; None where nothing can be on it."""
    pages = [_newest(one, owner=owner, before_id=before_id, limit=limit) for one in _alternatives(which)]
    if len(pages) <= 1:
        return pages[0] if pages else None
    together = union_all(*pages).subquery()
    return select(together).order_by(together.c.id.desc()).limit(limit)


def _alternatives(which: Filter) -> list[Filter]:
    """Take a filter apart into such with one reason, state or model each: these have indexes in the order of a page."""
    if which.failure_reasons:
        # No others have one.
        is_possible = not which.states or State.FAILED in which.states
        reasons = dict.fromkeys(which.failure_reasons) if is_possible else {}
        return [replace(which, states=(), failure_reasons=[reason]) for reason in reasons]
    if which.states:
        return [replace(which, states=[state]) for state in dict.fromkeys(which.states)]
    return [replace(which, models=[model]) for model in dict.fromkeys(which.models)] or [which]


def _newest(which: Filter, *, owner: str, before_id: str | None, limit: int) -> Select[tuple[object, ...]]:
    column = generations.c
    choices: list[tuple[ColumnElement[str], Sequence[str]]] = [
        (column.owner, [owner]),
        (_FAILED_FOR, which.failure_reasons),
        (column.state, which.states),
        (column.model, which.models),
    ]
    made = [(chosen, values) for chosen, values in choices if values]
    statement = _matching(which).where(*(_is_one_of(chosen, values) for chosen, values in made))
    if before_id is not None:
        statement = statement.where(column.id < before_id)
    # The owner, and the first of the others, which is of one value: there is an index in this order.
    return statement.order_by(*(chosen.desc() for chosen, _ in made[:2]), column.id.desc()).limit(limit)


def _matching(which: Filter) -> Select[tuple[object, ...]]:
    """Ask for what matches the parts of a filter that no list is in the order of."""
    column = generations.c
    statement = select(generations).where(column.delete_time.is_(None))
    if which.failure_reasons:
        # The index is of these alone.
        statement = statement.where(column.state == _FAILED)
    if which.labels:
        statement = statement.where(_LABELLED.bindparams(labels=json.dumps(dict(which.labels))))
    if which.created_after is not None:
        statement = statement.where(_exactly(column.create_time >= which.created_after))
        statement = statement.where(column.id >= _first_id(which.created_after))
    if which.created_before is not None:
        statement = statement.where(_exactly(column.create_time < which.created_before))
        statement = statement.where(column.id < _first_id(which.created_before, delay=ID_DELAY))
    return statement


def _is_one_of(column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Compare with a list, be it of one.

    PostgreSQL then takes an order by this column for one, and reads along the index that has it: a page of one owner
    passes over nobody else's rows, and one of a state over none of another, however much it thinks that to be cheaper.
    """
    return column == any_(literal(list(values), ARRAY(Text)))


def _exactly(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Ask for what the id says but roughly, in a form that PostgreSQL does not look into.

    It would take the two for independent, expect next to nothing of both, and read all of that time to sort it.
    """
    return case((condition, true()))


def _first_id(time: datetime, *, delay: timedelta = timedelta(0)) -> str:
    """Return what no UUIDv7 that was made so long after a time, or later, is less than."""
    milliseconds = max(0, int((time.timestamp() + delay.total_seconds()) * 1000))
    return str(UUID(int=milliseconds << TIME_SHIFT))

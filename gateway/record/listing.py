"""Reading many generations: filters, and pages that new generations do not disturb."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, literal_column, select, text

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


def _page(which: Filter, *, owner: str, before_id: str | None, limit: int) -> Select[tuple[object, ...]]:
    statement = _matching(which, owner=owner).order_by(generations.c.id.desc()).limit(limit)
    return statement if before_id is None else statement.where(generations.c.id < before_id)


def _matching(which: Filter, *, owner: str) -> Select[tuple[object, ...]]:
    column = generations.c
    statement = select(generations).where(column.owner == owner, column.delete_time.is_(None))
    if which.states:
        statement = statement.where(column.state.in_(which.states))
    if which.models:
        statement = statement.where(column.model.in_(which.models))
    if which.failure_reasons:
        # No others have one, and the index is of FAILED ones alone.
        statement = statement.where(column.state == _FAILED)
        statement = statement.where(_FAILED_FOR.in_(which.failure_reasons))
    if which.labels:
        statement = statement.where(_LABELLED.bindparams(labels=json.dumps(dict(which.labels))))
    if which.created_after is not None:
        statement = statement.where(column.create_time >= which.created_after)
        statement = statement.where(column.id >= _first_id(which.created_after))
    if which.created_before is not None:
        statement = statement.where(column.create_time < which.created_before)
        statement = statement.where(column.id < _first_id(which.created_before, delay=ID_DELAY))
    return statement


def _first_id(time: datetime, *, delay: timedelta = timedelta(0)) -> str:
    """Return what no UUIDv7 that was made so long after a time, or later, is less than."""
    milliseconds = max(0, int((time.timestamp() + delay.total_seconds()) * 1000))
    return str(UUID(int=milliseconds << TIME_SHIFT))

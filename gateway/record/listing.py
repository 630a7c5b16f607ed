"""Reading many generations: filters, and pages that new generations do not disturb."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select

from gateway.record.database import Database
from gateway.record.generation import Generation, State
from gateway.record.tables import generations


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
    """Lists of generations."""

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
        statement = _matching(which, owner=owner).order_by(generations.c.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(generations.c.id < before_id)
        rows = (await self._database.execute(statement)).mappings()
        return [Generation.from_row({**row, "progress": None}) for row in rows]


def _matching(which: Filter, *, owner: str) -> Select[tuple[object, ...]]:
    column = generations.c
    statement = select(generations).where(column.owner == owner, column.delete_time.is_(None))
    if which.states:
        statement = statement.where(column.state.in_(which.states))
    if which.models:
        statement = statement.where(column.model.in_(which.models))
    if which.failure_reasons:
        statement = statement.where(column.failure["reason"].astext.in_(which.failure_reasons))
    if which.labels:
        # The second condition lets the index of labels serve the first.
        statement = statement.where(column.spec["labels"].contains(dict(which.labels)), column.spec.has_key("labels"))
    if which.created_after is not None:
        statement = statement.where(column.create_time >= which.created_after)
    if which.created_before is not None:
        statement = statement.where(column.create_time < which.created_before)
    return statement

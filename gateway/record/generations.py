"""Generations as their clients see them: they are accepted, read and cancelled."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from easel.v1.generation_pb2 import GenerationSpec
from gateway.record import tables
from gateway.record.database import Database, Transaction
from gateway.record.documents import Json, to_json
from gateway.record.generation import Change, Event, Generation, Revision, State
from gateway.record.statements import CHANGED, END, WITH_ATTEMPT, read_change


@dataclass(frozen=True, kw_only=True)
class NewGeneration:
    """A checked request on its way into the record."""

    owner: str
    request_id: str | None
    model: str
    priority: int
    #: Counted from acceptance.
    timeout: timedelta | None
    spec: GenerationSpec
    resolved_spec: GenerationSpec
    retried_from: str | None = None
    #: The span in which it is accepted; none when empty.
    trace_parent: str = ""

    def as_row(self, position: int) -> Json:
        """Write what the record gets to know of it, with its place among those sent together."""
        return {
            "position": position,
            "owner": self.owner,
            "request_id": self.request_id,
            "model": self.model,
            "priority": self.priority,
            "timeout_seconds": None if self.timeout is None else self.timeout.total_seconds(),
            "spec": to_json(self.spec),
            "resolved_spec": to_json(self.resolved_spec),
            "retried_from": self.retried_from,
            "trace_parent": self.trace_parent or None,
        }

    def accepted(self, row: Mapping[Any, Any]) -> Generation:
        """Make the generation that it became, of what only the record knows."""
        return Generation(
            id=row["id"],
            owner=self.owner,
            request_id=self.request_id,
            model=self.model,
            priority=self.priority,
            spec=self.spec,
            resolved_spec=self.resolved_spec,
            state=State.QUEUED,
            revision=1,
            attempt=0,
            progress=None,
            images=(),
            phase_times=None,
            failure=None,
            retried_from=self.retried_from,
            create_time=row["create_time"],
            start_time=None,
            end_time=None,
            deadline_time=row["deadline_time"],
            purge_time=None,
            delete_time=None,
        )


class Generations:
    """The generations in the record.

    Args:
        database: Where they are.
        retention: How long final ones are kept; for ever when None.
    """

    def __init__(self, database: Database | Transaction, *, retention: timedelta | None = None) -> None:
        self._database = database
        self._retention = retention

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Generations"]:
        """Run several of these methods in one transaction: committed at the end, rolled back by an exception.

        Raises:
            DatabaseUnavailable: whether it was committed is not known.
        """
        async with self._database.transaction() as transaction:
            yield Generations(transaction, retention=self._retention)

    async def create_generations(self, requests: Sequence[NewGeneration]) -> list[Generation | None]:
        """Accept requests, each for itself and all in one statement.

        Returns:
            In order, the generation of each; None where another has its request_id already.
        """
        parameters = {"sent": json.dumps([one.as_row(position) for position, one in enumerate(requests)])}
        rows = (await self._database.execute(_CREATE, parameters)).mappings()
        return [
            None if row["id"] is None else request.accepted(row) for request, row in zip(requests, rows, strict=True)
        ]

    async def find_requests(self, *, owner: str, request_ids: Sequence[str]) -> dict[str, Generation]:
        """Read the generations that request_ids made, tombstones too, by their request_ids."""
        found = await self._database.execute(_FIND_REQUESTS, {"owner": owner, "request_ids": list(request_ids)})
        return {row["request_id"]: Generation.from_row(row) for row in found.mappings()}

    async def get_generation(self, generation_id: str, *, owner: str) -> Generation | None:
        """Read one generation."""
        found = await self.get_history(generation_id, owner=owner, after_revision=None)
        return found[0] if found else None

    async def get_history(
        self, generation_id: str, *, owner: str, after_revision: int | None
    ) -> tuple[Generation, list[Event]] | None:
        """Read one generation and, in order, its changes of state after a revision, at one instant; None reads none."""
        parameters = {"id": generation_id, "owner": owner, "after": after_revision}
        row = (await self._database.execute(_HISTORY, parameters)).mappings().one_or_none()
        if row is None:
            return None
        events = [
            Event(
                revision=event["revision"],
                state=State(event["state"]),
                attempt=event["attempt"],
                time=datetime.fromisoformat(event["time"]),
            )
            for event in row["events"]
        ]
        return Generation.from_row(row), events

    async def get_revisions(self, generation_ids: Sequence[str]) -> dict[str, Revision]:
        """Read how far many generations have come, at once."""
        rows = await self._database.execute(_REVISIONS, {"ids": list(generation_ids)})
        return {row.id: Revision(row.revision, State(row.state)) for row in rows}

    async def cancel_generation(self, generation_id: str, *, owner: str) -> Change | None:
        """Cancel a generation unless it is final, and say whether that changed anything."""
        parameters = {"id": generation_id, "owner": owner, "retention": self._retention}
        return read_change(await self._database.execute(_CANCEL, parameters))


# By name, and not with a star: a newer version may add columns while this one runs, and PostgreSQL refuses a prepared
# statement whose columns have changed.
_COLUMNS = ", ".join(f"generations.{column.name}" for column in tables.generations.columns)

# In the order of their request_ids, so that statements with the same ones wait for one another and never in a circle.
_CREATE = text("""
    WITH sent AS MATERIALIZED (
        SELECT uuidv7() AS id, *
        FROM jsonb_to_recordset(CAST(:sent AS jsonb)) AS sent (
            position integer, owner text, request_id text, model text, priority integer, timeout_seconds float8,
            spec jsonb, resolved_spec jsonb, retried_from uuid, trace_parent text
        )
    ), created AS (
        INSERT INTO generations
            (id, owner, request_id, model, priority, spec, resolved_spec, retried_from, trace_parent, deadline_time)
        SELECT id, owner, request_id, model, priority, spec, resolved_spec, retried_from, trace_parent,
               now() + make_interval(secs => timeout_seconds)
        FROM sent ORDER BY owner, request_id
        ON CONFLICT (owner, request_id) DO NOTHING
        RETURNING id, create_time, deadline_time
    )
    SELECT created.id, create_time, deadline_time FROM sent LEFT JOIN created USING (id) ORDER BY position
""")

_FIND_REQUESTS = text(f"""
    SELECT {_COLUMNS}, attempts.progress {WITH_ATTEMPT}
    WHERE owner = :owner AND request_id = ANY(CAST(:request_ids AS text[]))
""")

_HISTORY = text(f"""
    SELECT {_COLUMNS}, attempts.progress,
           (SELECT coalesce(json_agg(events ORDER BY events.revision), '[]') FROM events
            WHERE events.generation_id = id AND events.revision > CAST(:after AS bigint)) AS events
    {WITH_ATTEMPT} WHERE id = :id AND owner = :owner AND delete_time IS NULL
""")

_REVISIONS = text("SELECT id, revision, state FROM generations WHERE id = ANY(CAST(:ids AS uuid[]))")

_CANCEL = text(f"""
    UPDATE generations SET state = 'CANCELLED', {END}
    WHERE id = :id AND owner = :owner AND state IN ('QUEUED', 'RUNNING')
    RETURNING {CHANGED}
""")

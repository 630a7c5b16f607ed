"""The queue: which generations wait, which of them come next, and whose hints are out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from gateway.record.database import Database
from gateway.record.generation import Generation, State

#: Beyond so many, a place in the queue is not counted further.
MAX_QUEUE_POSITION = 1_000


@dataclass(frozen=True, kw_only=True)
class DueHint:
    """A generation whose hint is to be published now."""

    generation_id: str
    model: str
    #: Since it was accepted.
    age: timedelta
    #: The span that accepted it; none when empty.
    trace_parent: str = ""


@dataclass(frozen=True, kw_only=True)
class LiveCount:
    """How many generations of a model are in a state that is not final, and how long ago the oldest was accepted."""

    model: str
    state: State
    count: int
    oldest: timedelta


class Queue:
    """The generations in the record that wait."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_live(self) -> list[LiveCount]:
        """Count the generations that are not final, by model and state."""
        rows = (await self._database.execute(_COUNT_LIVE)).mappings()
        return [LiveCount(**{**row, "state": State(row["state"])}) for row in rows]

    async def get_queue_position(self, generation: Generation) -> int:
        """Count the generations that start before a QUEUED one, up to MAX_QUEUE_POSITION."""
        parameters = {"model": generation.model, "priority": generation.priority, "id": generation.id}
        return int((await self._database.execute(_QUEUE_POSITION, parameters)).scalar_one())

    async def mark_dispatched(self, *, liveness: timedelta) -> list[DueHint]:
        """Choose the generations whose hints are to be published now, and mark them.

        For each model with live workers as many hints may be out as twice its workers' slots: a worker that gets free
        finds the next one there at once, and the rest of the backlog stays where it can be reordered and cancelled.
        """
        rows = (await self._database.execute(_MARK_DISPATCHED, {"liveness": liveness})).mappings()
        return [DueHint(**row) for row in rows]

    async def unmark_dispatched(self, generation_ids: Sequence[str], *, marked_before: datetime | None = None) -> int:
        """Have the hints of these published again, unless they were marked anew since; count them."""
        parameters = {"ids": list(generation_ids), "marked_before": marked_before}
        return (await self._database.execute(_UNMARK_DISPATCHED, parameters)).rowcount

    async def get_dispatched(self, *, older_than: timedelta) -> dict[str, dict[str, datetime]]:
        """Read the generations whose hints should be on the bus since a while, by model, and when they were marked."""
        rows = await self._database.execute(_DISPATCHED, {"older_than": older_than})
        dispatched: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
        for row in rows:
            dispatched[row.model][row.id] = row.dispatched_time
        return dict(dispatched)


# One SELECT for each state, so that each has an index of its own.
_COUNT_LIVE = text("""
    SELECT model, 'QUEUED' AS state, count(*), now() - min(create_time) AS oldest
    FROM generations WHERE state = 'QUEUED' GROUP BY model
    UNION ALL
    SELECT model, 'RUNNING', count(*), now() - min(create_time)
    FROM generations WHERE state = 'RUNNING' GROUP BY model
""")

# Each half goes along the index and ends with it, as one condition with OR would not: that reads the whole queue. Both
# compare with lists of one and have the order of the index; else PostgreSQL may read the table until it has found a
# thousand, which there may not be.
_QUEUE_POSITION = text(f"""
    SELECT count(*) FROM (
        (SELECT FROM generations
         WHERE model = ANY(ARRAY[CAST(:model AS text)]) AND state = 'QUEUED' AND priority > :priority
         ORDER BY model, priority DESC, id LIMIT {MAX_QUEUE_POSITION})
        UNION ALL
        (SELECT FROM generations
         WHERE model = ANY(ARRAY[CAST(:model AS text)]) AND state = 'QUEUED'
           AND priority = ANY(ARRAY[CAST(:priority AS integer)]) AND id < :id
         ORDER BY model, priority DESC, id LIMIT {MAX_QUEUE_POSITION})
        LIMIT {MAX_QUEUE_POSITION}
    ) AS earlier
""")

# They are chosen and locked once, and marked by an array of ids: PostgreSQL has no idea of how many there are, and
# would join what it takes for a tenth of a long queue to the whole table.
_MARK_DISPATCHED = text("""
    WITH room AS (
        SELECT model, greatest(0, 2 * sum(slots) - (
            SELECT count(*) FROM generations
            WHERE generations.model = workers.model AND state = 'QUEUED' AND dispatched_time IS NOT NULL
        )) AS hints
        FROM workers WHERE last_seen_time > now() - CAST(:liveness AS interval)
        GROUP BY model
    ), due AS MATERIALIZED (
        SELECT first.id FROM room CROSS JOIN LATERAL (
            SELECT id FROM generations
            WHERE model = room.model AND state = 'QUEUED' AND dispatched_time IS NULL AND available_time <= now()
            ORDER BY priority DESC, id LIMIT room.hints FOR UPDATE SKIP LOCKED
        ) AS first
    )
    UPDATE generations SET dispatched_time = now() WHERE id = ANY(ARRAY(SELECT id FROM due))
    RETURNING id AS generation_id, model, now() - create_time AS age, coalesce(trace_parent, '') AS trace_parent
""")

_UNMARK_DISPATCHED = text("""
    UPDATE generations SET dispatched_time = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'QUEUED' AND dispatched_time IS NOT NULL
      AND (CAST(:marked_before AS timestamptz) IS NULL OR dispatched_time < CAST(:marked_before AS timestamptz))
""")

# All of them, which are no more than twice the workers' slots.
_DISPATCHED = text("""
    SELECT model, id, dispatched_time FROM generations
    WHERE state = 'QUEUED' AND dispatched_time < now() - CAST(:older_than AS interval)
""")

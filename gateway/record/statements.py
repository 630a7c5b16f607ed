"""What statements about generations have in common."""

from typing import Any

from sqlalchemy import CursorResult

from gateway.record.generation import Change, State

WITH_ATTEMPT = "FROM generations LEFT JOIN attempts ON attempts.generation_id = id AND attempts.number = attempt"

# The attempt of a generation that leaves RUNNING ends with it: a trigger sees to that, unless the statement says how.

#: What every change to a final state sets.
END = "end_time = now(), lease_expire_time = NULL, purge_time = now() + CAST(:retention AS interval)"


#: What a statement returns of each generation that it changed.
CHANGED = "generations.id, revision, state, model, now() - create_time AS age"


def read_changes(result: CursorResult[Any]) -> list[Change]:
    """Read what a statement returned of each generation that it changed."""
    return [
        Change(
            generation_id=row["id"],
            revision=row["revision"],
            state=State(row["state"]),
            model=row["model"],
            age=row["age"],
            failure_reason=row.get("failure_reason"),
        )
        for row in result.mappings()
    ]


def read_change(result: CursorResult[Any]) -> Change | None:
    """Read what a statement about one generation returned, if it changed it."""
    changes = read_changes(result)
    return changes[0] if changes else None

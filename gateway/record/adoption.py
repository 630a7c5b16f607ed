"""Adoption: what becomes of pictures that no attempt in the record stored.

A record that was restored from a backup has forgotten the attempts made since, and their workers still deliver. Where
the generation waits for pictures it gets these; otherwise nobody can ask for them, and they are put down for deletion.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from gateway.record.database import Database
from gateway.record.documents import Json
from gateway.record.generation import Change
from gateway.record.statements import CHANGED, END, read_change


@dataclass(frozen=True, kw_only=True)
class ForgottenAttempt:
    """An attempt that stored its pictures, as its worker tells of it."""

    generation_id: str
    #: By now the record may have given the number to another one.
    number: int
    worker_id: str
    claim_id: str
    object_prefix: str


class Adoption:
    """Takes attempts into the record that it has forgotten, or their pictures out of the bucket.

    Args:
        database: The record.
        retention: How long final generations are kept; for ever when None.
    """

    def __init__(self, database: Database, *, retention: timedelta | None = None) -> None:
        self._database = database
        self._retention = retention

    async def wants(self, attempt: ForgottenAttempt) -> bool:
        """Say whether its generation waits for pictures, and the record does not know of these."""
        return bool((await self._database.execute(_WANTS, vars(attempt))).scalar_one())

    async def adopt(self, attempt: ForgottenAttempt, *, images: Sequence[Json], phase_times: Json) -> Change | None:
        """Finish a generation that waits with the pictures of an attempt that the record does not know."""
        parameters = {
            **vars(attempt),
            "images": json.dumps(list(images)),
            "phase_times": json.dumps(phase_times),
            "retention": self._retention,
        }
        async with self._database.transaction() as transaction:
            # Locked by a statement of its own, so that the next one sees the attempt of a claim that it waited for.
            if not (await transaction.execute(_LOCK, parameters)).scalars().all():
                return None
            return read_change(await transaction.execute(_ADOPT, parameters))

    async def put_down(self, attempt: ForgottenAttempt) -> bool:
        """Have its pictures removed, if the record knows of none such and its generation is final or gone; say so."""
        return (await self._database.execute(_PUT_DOWN, vars(attempt))).rowcount > 0


_IS_LIVE = "id = :generation_id AND state IN ('QUEUED', 'RUNNING')"
_IS_KNOWN = "EXISTS (SELECT FROM attempts WHERE generation_id = :generation_id AND object_prefix = :object_prefix)"

_WANTS = text(f"SELECT EXISTS (SELECT FROM generations WHERE {_IS_LIVE}) AND NOT {_IS_KNOWN}")

_LOCK = text(f"SELECT id FROM generations WHERE {_IS_LIVE} AND NOT {_IS_KNOWN} FOR UPDATE")

# Under its own number, unless the record has come as far with others.
_ADOPT = text(f"""
    WITH adopted AS (
        INSERT INTO attempts (generation_id, number, worker_id, claim_id, object_prefix, outcome, end_time)
        SELECT :generation_id, greatest(:number, max(number) FILTER (WHERE number >= :number) + 1),
               :worker_id, :claim_id, :object_prefix, 'SUCCEEDED', now()
        FROM attempts WHERE generation_id = :generation_id
        RETURNING number
    )
    UPDATE generations
    SET state = 'SUCCEEDED', attempt = greatest(attempt, number), start_time = coalesce(start_time, now()),
        images = CAST(:images AS jsonb), phase_times = CAST(:phase_times AS jsonb), {END}
    FROM adopted WHERE id = :generation_id
    RETURNING {CHANGED}
""")

_PUT_DOWN = text(f"""
    INSERT INTO object_deletions (object_prefix)
    SELECT :object_prefix
    WHERE NOT {_IS_KNOWN} AND NOT EXISTS (SELECT FROM generations WHERE {_IS_LIVE})
    ON CONFLICT DO NOTHING
""")

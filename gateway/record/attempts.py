"""Attempts: workers claim, renew, release and finish them; the sweep takes away what was lost or is too late."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import text

from easel.failures import Remedy, remedy_of
from easel.v1.generation_pb2 import Failure
from gateway.record.database import Database
from gateway.record.documents import Json, from_json, to_json
from gateway.record.generation import Change, State
from gateway.record.statements import CHANGED, END, WITH_ATTEMPT, read_change, read_changes

#: How many rows one sweep statement changes at most, so that it stays short.
SWEEP_ROWS = 100

MAX_BACKOFF = timedelta(minutes=1)

#: What messages leave out, since it is their default; counts and filters go by it.
NO_REASON = "FAILURE_REASON_UNSPECIFIED"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Names one attempt: the fence of everything said about it."""

    generation_id: str
    number: int
    #: The claim that made it. A record that was restored from a backup gives numbers out again, and never a claim.
    #: Empty from workers of an earlier version, for whom the number alone counts.
    claim_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A claim that was granted, now or when it was made before."""

    generation_id: str
    attempt: int
    resolved_spec: Json
    object_prefix: str
    alone: bool
    revision: int
    model: str
    is_new: bool


class Refusal(Enum):
    """Why a claim was not granted."""

    #: It is final, or there is no such generation.
    GONE = "gone"
    #: Another worker draws it; or this claim was granted once, and what came of it is over.
    HELD = "held"


@dataclass(frozen=True, kw_only=True)
class NotYet:
    """A claim that comes too early."""

    retry_after: timedelta


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """What becomes of a generation whose attempt was lost, or failed in a way that is worth a retry."""

    #: Such attempts, drawn alone, after which it becomes a dead letter.
    max_lost_attempts: int
    #: The wait after the first one; it doubles with each further one, up to a minute.
    backoff: timedelta


class Attempts:
    """The attempts in the record, and the generations that they are at.

    Args:
        database: Where they are.
        retention: How long final generations are kept; for ever when None.
    """

    def __init__(self, database: Database, *, retention: timedelta | None = None) -> None:
        self._database = database
        self._retention = retention

    async def claim(
        self, generation_id: str, *, claim_id: str, worker_id: str, nonce: str, lease: timedelta
    ) -> Grant | Refusal | NotYet:
        """Start an attempt if the generation is waiting, else say why not.

        The same claim_id gets the same answer for as long as its attempt lasts, and never another attempt.
        """
        parameters = {
            "id": generation_id,
            "claim_id": claim_id,
            "worker_id": worker_id,
            "nonce": nonce,
            "lease": lease,
        }
        row = (await self._database.execute(_CLAIM, parameters)).mappings().one_or_none()
        if row is not None:
            return Grant(**row, is_new=True)
        standing = (await self._database.execute(_STANDING, parameters)).mappings().one_or_none()
        if standing is None or State(standing["state"]).is_final or standing["expired"]:
            return Refusal.GONE
        if standing["state"] == State.RUNNING:
            if standing["claim_id"] != claim_id:
                return Refusal.HELD
            known = {name: standing[name] for name in Grant.__dataclass_fields__ if name in standing}
            return Grant(**known, is_new=False)
        if standing["granted_before"]:
            return Refusal.HELD
        return NotYet(retry_after=max(standing["wait"], timedelta(0)))

    async def renew(self, attempts: Sequence[Attempt], *, lease: timedelta) -> set[Attempt]:
        """Extend the leases of these attempts, and return those that are still their worker's.

        A lease that has run out comes alive again as long as nobody has judged it.
        """
        if not attempts:
            return set()
        rows = await self._database.execute(_RENEW, {**_arrays(attempts), "lease": lease})
        return {Attempt(generation_id=row.id, number=row.attempt, claim_id=row.named) for row in rows}

    async def release(self, attempts: Sequence[Attempt]) -> list[Change]:
        """Put these attempts' generations back into the queue, at no cost to them."""
        if not attempts:
            return []
        return read_changes(await self._database.execute(_RELEASE, _arrays(attempts)))

    async def succeed(self, attempt: Attempt, *, images: Sequence[Json], phase_times: Json) -> Change | None:
        """Finish a generation with the pictures of an attempt, current or late; the first one wins."""
        parameters = {
            "id": attempt.generation_id,
            "attempt": attempt.number,
            "claim_id": attempt.claim_id,
            "images": json.dumps(list(images)),
            "phase_times": json.dumps(phase_times),
            "retention": self._retention,
        }
        return read_change(await self._database.execute(_SUCCEED, parameters))

    async def fail(self, attempt: Attempt, *, failure: Json, policy: RetryPolicy) -> Change | None:
        """Finish a generation with the failure of its current attempt, or queue it again if that is worth it.

        One that was queued again often enough becomes a dead letter.
        """
        told = from_json(failure, Failure())
        remedy = remedy_of(told)
        told.retryable = remedy is not Remedy.NONE
        document = {"reason": NO_REASON, **to_json(told)}
        parameters = {
            "id": attempt.generation_id,
            "attempt": attempt.number,
            "claim_id": attempt.claim_id,
            "failure": json.dumps(document),
            "told": f"{str(document['reason']).removeprefix('FAILURE_REASON_')}: {told.message}",
            "retryable": told.retryable,
            "losses": 0 if remedy is Remedy.PERSIST else 1,
            **_policy(policy),
            "retention": self._retention,
        }
        return read_change(await self._database.execute(_FAIL, parameters))

    async def save_progress(self, reports: Sequence[tuple[Attempt, int, Json]]) -> None:
        """Store the latest progress of attempts: (attempt, sequence, progress); an older sequence changes nothing."""
        if not reports:
            return
        sent = [
            {
                "id": attempt.generation_id,
                "number": attempt.number,
                "claim": attempt.claim_id,
                "sequence": sequence,
                "progress": progress,
            }
            for attempt, sequence, progress in reports
        ]
        await self._database.execute(_SAVE_PROGRESS, {"sent": json.dumps(sent)})

    # What the sweep does.

    async def get_overdue(self, *, overdue_before: datetime) -> list[str]:
        """Read which generations would be taken from their workers or expire next, as overdue before a time."""
        parameters = {"overdue_before": overdue_before, "rows": SWEEP_ROWS}
        return list((await self._database.execute(_OVERDUE, parameters)).scalars())

    async def requeue_lost(
        self, *, overdue_before: datetime, policy: RetryPolicy, among: Sequence[str] | None = None
    ) -> list[Change]:
        """Take generations from workers whose leases ran out before a time: back to the queue, or FAILED for good.

        Only some of those given in `among`, unless that is None.
        """
        parameters = {
            "overdue_before": overdue_before,
            "rows": SWEEP_ROWS,
            "among": None if among is None else list(among),
            **_policy(policy),
            "retention": self._retention,
        }
        return read_changes(await self._database.execute(_REQUEUE_LOST, parameters))

    async def expire(self, *, overdue_before: datetime, among: Sequence[str] | None = None) -> list[Change]:
        """Expire generations whose deadlines passed before a time; only some of those in `among`, unless it is None."""
        parameters = {
            "overdue_before": overdue_before,
            "rows": SWEEP_ROWS,
            "among": None if among is None else list(among),
            "retention": self._retention,
        }
        return read_changes(await self._database.execute(_EXPIRE, parameters))

    async def get_time(self) -> datetime:
        """Read the database's clock."""
        time: datetime = (await self._database.execute(text("SELECT now()"))).scalar_one()
        return time


def _arrays(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    # In the order of their ids, so that statements about the same ones wait for one another and never in a circle.
    attempts = sorted(attempts, key=lambda one: one.generation_id)
    return {
        "ids": [one.generation_id for one in attempts],
        "numbers": [one.number for one in attempts],
        "claims": [one.claim_id for one in attempts],
    }


def _policy(policy: RetryPolicy) -> dict[str, Any]:
    return {"max_lost": policy.max_lost_attempts, "backoff": policy.backoff, "max_backoff": MAX_BACKOFF}


_HELD = """
    unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[]), CAST(:claims AS text[])) AS held (held_id, number, named)
"""
_IS_HELD = "id = held_id AND state = 'RUNNING' AND attempt = number AND named IN ('', claim_id)"

# A claim that comes a second time, late, finds nobody who would draw: it must not start another attempt.
_CLAIM = text("""
    WITH claimed AS (
        UPDATE generations
        SET state = 'RUNNING', attempt = attempt + 1, claim_id = :claim_id, dispatched_time = NULL,
            lease_expire_time = now() + CAST(:lease AS interval), start_time = coalesce(start_time, now())
        WHERE id = :id AND state = 'QUEUED' AND available_time <= now()
          AND (deadline_time IS NULL OR deadline_time > now())
          AND NOT EXISTS (SELECT FROM attempts WHERE generation_id = :id AND attempts.claim_id = :claim_id)
        RETURNING id, attempt, resolved_spec, lost_attempts, revision, model
    ), started AS (
        INSERT INTO attempts (generation_id, number, worker_id, claim_id, object_prefix, alone)
        SELECT id, attempt, :worker_id, :claim_id, 'results/' || id || '/' || attempt || '-' || :nonce || '/',
               lost_attempts > 0
        FROM claimed
        RETURNING generation_id, object_prefix
    )
    SELECT generation_id, attempt, resolved_spec, object_prefix, lost_attempts > 0 AS alone, revision, model
    FROM claimed JOIN started ON id = generation_id
""")

_STANDING = text(f"""
    SELECT id AS generation_id, state, generations.claim_id, attempt, resolved_spec, object_prefix, revision, model,
           lost_attempts > 0 AS alone, available_time - now() AS wait,
           coalesce(deadline_time <= now(), false) AS expired,
           EXISTS (SELECT FROM attempts WHERE generation_id = :id AND attempts.claim_id = :claim_id) AS granted_before
    {WITH_ATTEMPT} WHERE id = :id
""")

_RENEW = text(f"""
    UPDATE generations SET lease_expire_time = now() + CAST(:lease AS interval) FROM {_HELD} WHERE {_IS_HELD}
    RETURNING id, attempt, named
""")

_RELEASE = text(f"""
    WITH released AS (
        UPDATE generations
        SET state = 'QUEUED', available_time = now(), dispatched_time = NULL, lease_expire_time = NULL
        FROM {_HELD} WHERE {_IS_HELD}
        RETURNING attempt, {CHANGED}
    ), ended AS (
        UPDATE attempts SET outcome = 'RELEASED', end_time = now() FROM released
        WHERE generation_id = id AND attempts.number = attempt
    )
    SELECT * FROM released
""")

_SUCCEED = text(f"""
    WITH target AS (
        SELECT id FROM generations
        WHERE id = :id AND state IN ('QUEUED', 'RUNNING')
          AND EXISTS (
              SELECT FROM attempts
              WHERE generation_id = :id AND number = :attempt AND CAST(:claim_id AS text) IN ('', attempts.claim_id)
          )
        FOR UPDATE
    ), won AS (
        UPDATE generations
        SET state = 'SUCCEEDED', images = CAST(:images AS jsonb), phase_times = CAST(:phase_times AS jsonb),
            {END}
        FROM target WHERE generations.id = target.id AND generations.state IN ('QUEUED', 'RUNNING')
        RETURNING {CHANGED}
    ), ended AS (
        UPDATE attempts SET outcome = 'SUCCEEDED', end_time = now() FROM target
        WHERE generation_id = target.id AND number = :attempt
    )
    SELECT * FROM won
""")

# lost_attempts counts the loss that made a request run alone, then those while alone; a failure that is worth a retry
# is a loss. The wait grows with all attempts.
_LOSE = """
        state = CASE WHEN {given_up} THEN 'FAILED' ELSE 'QUEUED' END,
        lost_attempts = lost_attempts + {losses},
        available_time = now() + least(CAST(:max_backoff AS interval),
                                       CAST(:backoff AS interval) * power(2, least(attempt - 1, 20))),
        dispatched_time = NULL,
        lease_expire_time = NULL,
        end_time = CASE WHEN {given_up} THEN now() END,
        purge_time = CASE WHEN {given_up} THEN now() + CAST(:retention AS interval) END
"""

_DEAD_LETTER = """jsonb_build_object(
                'reason', 'FAILURE_REASON_DEAD_LETTER',
                'message',
                'given up: ' || (lost_attempts + 1) || ' attempts were lost or failed; the last one ' || {how}
            )"""

# What says nothing against the request is no loss, and tried again for as long as it takes.
_IS_LAST_LOSS = "(:losses > 0 AND lost_attempts >= :max_lost)"

_FAIL = text(f"""
    WITH failed AS (
        UPDATE generations SET
            {_LOSE.format(given_up=f"(NOT :retryable OR {_IS_LAST_LOSS})", losses=":losses")},
            failure = CASE
                WHEN NOT :retryable THEN CAST(:failure AS jsonb)
                WHEN {_IS_LAST_LOSS} THEN {_DEAD_LETTER.format(how="'failed with ' || CAST(:told AS text)")}
            END
        WHERE id = :id AND state = 'RUNNING' AND attempt = :attempt AND CAST(:claim_id AS text) IN ('', claim_id)
        RETURNING attempt, {CHANGED}, failure ->> 'reason' AS failure_reason
    ), ended AS (
        UPDATE attempts SET outcome = 'FAILED', failure = CAST(:failure AS jsonb), end_time = now() FROM failed
        WHERE generation_id = id AND number = attempt
    )
    SELECT * FROM failed
""")

# Locked in the order of their ids, so that gateways with reports of the same attempts never wait in a circle.
_SAVE_PROGRESS = text("""
    WITH report AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:sent AS jsonb))
          AS report (id uuid, number integer, claim text, sequence bigint, progress jsonb)
    ), newer AS (
        SELECT generation_id, attempts.number, report.sequence, report.progress
        FROM attempts JOIN report
          ON generation_id = report.id AND attempts.number = report.number AND claim IN ('', claim_id)
        WHERE generation_id = ANY(ARRAY(SELECT id FROM report))
          AND progress_sequence < report.sequence AND outcome IS NULL
        ORDER BY generation_id FOR UPDATE OF attempts
    )
    UPDATE attempts SET progress = newer.progress, progress_sequence = newer.sequence FROM newer
    WHERE attempts.generation_id = newer.generation_id AND attempts.number = newer.number
""")

# In the order, and as many, as the two statements take that follow.
_OVERDUE = text("""
    (SELECT id FROM generations WHERE state = 'RUNNING' AND lease_expire_time < :overdue_before
     ORDER BY id LIMIT :rows)
    UNION
    (SELECT id FROM generations WHERE state IN ('QUEUED', 'RUNNING') AND deadline_time < :overdue_before
     ORDER BY deadline_time LIMIT :rows)
""")

_AMONG = "(CAST(:among AS uuid[]) IS NULL OR id = ANY(CAST(:among AS uuid[])))"

# By an array of ids, so that they are looked up, however many PostgreSQL believes there to be. And the last condition
# holds for RUNNING ones alone without a word of their state: at that PostgreSQL may look through all that run, once for
# each, where its statistics are of a time when hardly any did.
_REQUEUE_LOST = text(f"""
    WITH lost AS (
        UPDATE generations SET {_LOSE.format(given_up="lost_attempts >= :max_lost", losses=1)},
            failure = CASE
                WHEN lost_attempts >= :max_lost THEN {_DEAD_LETTER.format(how="'was lost with its worker'")}
            END
        WHERE id = ANY(ARRAY(
            SELECT id FROM generations WHERE state = 'RUNNING' AND lease_expire_time < :overdue_before AND {_AMONG}
            ORDER BY id LIMIT :rows FOR UPDATE SKIP LOCKED
        )) AND lease_expire_time < :overdue_before
        RETURNING attempt, {CHANGED}, failure ->> 'reason' AS failure_reason
    ), ended AS (
        UPDATE attempts SET outcome = 'LOST', end_time = now() FROM lost
        WHERE generation_id = id AND number = attempt
    )
    SELECT * FROM lost
""")

_EXPIRE = text(f"""
    UPDATE generations SET state = 'EXPIRED', {END}
    WHERE id = ANY(ARRAY(
        SELECT id FROM generations
        WHERE state IN ('QUEUED', 'RUNNING') AND deadline_time < :overdue_before AND {_AMONG}
        ORDER BY deadline_time LIMIT :rows FOR UPDATE SKIP LOCKED
    )) AND state IN ('QUEUED', 'RUNNING')
    RETURNING {CHANGED}
""")

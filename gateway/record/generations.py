"""Every statement that reads or changes generations: accept, dispatch, claim, renew, release, finish, cancel, sweep.

Each change is one statement, or one transaction, whose WHERE repeats what it relies on, so that any number of gateways
may run any of them at the same time. All times are the database's.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import TextClause, text

from easel.v1.generation_pb2 import GenerationSpec
from gateway.record.database import Database, Transaction
from gateway.record.documents import Json, to_json
from gateway.record.generation import Change, Event, Generation, State

#: How many rows one sweep statement changes at most, so that it stays short.
SWEEP_ROWS = 100

#: Beyond so many, a place in the queue is not counted further.
MAX_QUEUE_POSITION = 1_000

MAX_BACKOFF = timedelta(minutes=1)

#: What messages leave out, since it is their default; counts and filters go by it.
NO_REASON = "FAILURE_REASON_UNSPECIFIED"

#: Failures that say nothing against the request: while storage is away, each would come to its end otherwise.
BLAMELESS_REASONS = ("FAILURE_REASON_STORAGE",)


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


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Names one attempt: the fence of everything said about it."""

    generation_id: str
    number: int


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


@dataclass(frozen=True, kw_only=True)
class DueHint:
    """A generation whose hint is to be published now."""

    generation_id: str
    model: str
    #: Since it was accepted.
    age: timedelta


@dataclass(frozen=True, kw_only=True)
class LiveCount:
    """How many generations of a model are in a state that is not final, and how long ago the oldest was accepted."""

    model: str
    state: State
    count: int
    oldest: timedelta


class Refusal(Enum):
    """Why a claim was not granted."""

    #: It is final, or there is no such generation.
    GONE = "gone"
    #: Another worker draws it.
    HELD = "held"


@dataclass(frozen=True, kw_only=True)
class NotYet:
    """A claim that comes too early."""

    retry_after: timedelta


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """What becomes of a generation whose attempt was lost."""

    #: Losses while drawn alone after which it is given up.
    max_lost_attempts: int
    #: The wait after the first loss; it doubles with each further one, up to a minute.
    backoff: timedelta


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

    async def find_request(self, *, owner: str, request_id: str) -> Generation | None:
        """Read the generation that a request_id made, if it made one."""
        found = await self._database.execute(_FIND_REQUEST, {"owner": owner, "request_id": request_id})
        row = found.mappings().one_or_none()
        return None if row is None else Generation.from_row(row)

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

    async def get_queue_position(self, generation: Generation) -> int:
        """Count the generations that start before a QUEUED one, up to MAX_QUEUE_POSITION."""
        parameters = {"model": generation.model, "priority": generation.priority, "id": generation.id}
        return int((await self._database.execute(_QUEUE_POSITION, parameters)).scalar_one())

    async def get_revisions(self, generation_ids: Sequence[str]) -> dict[str, int]:
        """Read the revisions of many generations at once."""
        rows = await self._database.execute(_REVISIONS, {"ids": list(generation_ids)})
        return {row.id: row.revision for row in rows}

    async def count_live(self) -> list[LiveCount]:
        """Count the generations that are not final, by model and state."""
        rows = (await self._database.execute(_COUNT_LIVE)).mappings()
        return [LiveCount(**{**row, "state": State(row["state"])}) for row in rows]

    async def cancel_generation(self, generation_id: str, *, owner: str) -> Change | None:
        """Cancel a generation unless it is final, and say whether that changed anything."""
        return await self._change(_CANCEL, {"id": generation_id, "owner": owner, **self._end()})

    # What the dispatcher does.

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

    async def get_dispatched(self, model: str, *, older_than: timedelta) -> dict[str, datetime]:
        """Read the generations whose hints should be on the bus since a while, and when they were marked."""
        rows = await self._database.execute(_DISPATCHED, {"model": model, "older_than": older_than})
        return {row.id: row.dispatched_time for row in rows}

    # What workers do.

    async def claim(
        self, generation_id: str, *, claim_id: str, worker_id: str, nonce: str, lease: timedelta
    ) -> Grant | Refusal | NotYet:
        """Start an attempt if the generation is waiting, else say why not; the same claim_id gets the same answer."""
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
        return NotYet(retry_after=max(standing["wait"], timedelta(0)))

    async def renew(self, attempts: Sequence[Attempt], *, lease: timedelta) -> set[Attempt]:
        """Extend the leases of these attempts, and return those that are still their worker's.

        A lease that has run out comes alive again as long as nobody has judged it.
        """
        if not attempts:
            return set()
        rows = await self._database.execute(_RENEW, {**_arrays(attempts), "lease": lease})
        return {Attempt(generation_id=row.id, number=row.attempt) for row in rows}

    async def release(self, attempts: Sequence[Attempt]) -> list[Change]:
        """Put these attempts' generations back into the queue, at no cost to them."""
        if not attempts:
            return []
        return _changes((await self._database.execute(_RELEASE, _arrays(attempts))).mappings())

    async def succeed(self, attempt: Attempt, *, images: Sequence[Json], phase_times: Json) -> Change | None:
        """Finish a generation with the pictures of an attempt, current or late; the first one wins."""
        parameters = {
            "id": attempt.generation_id,
            "attempt": attempt.number,
            "images": json.dumps(list(images)),
            "phase_times": json.dumps(phase_times),
            **self._end(),
        }
        return await self._change(_SUCCEED, parameters)

    async def fail(self, attempt: Attempt, *, failure: Json, policy: RetryPolicy) -> Change | None:
        """Finish a generation with the failure of its current attempt, or queue it again if that is worth it."""
        parameters = {
            "id": attempt.generation_id,
            "attempt": attempt.number,
            "failure": json.dumps({"reason": NO_REASON, **failure}),
            "retryable": bool(failure.get("retryable", False)),
            "losses": 0 if failure.get("reason") in BLAMELESS_REASONS else 1,
            **_policy(policy),
            **self._end(),
        }
        return await self._change(_FAIL, parameters)

    async def save_progress(self, reports: Sequence[tuple[Attempt, int, Json]]) -> None:
        """Store the latest progress of attempts: (attempt, sequence, progress); an older sequence changes nothing."""
        if not reports:
            return
        sent = [
            {"id": attempt.generation_id, "number": attempt.number, "sequence": sequence, "progress": progress}
            for attempt, sequence, progress in reports
        ]
        await self._database.execute(_SAVE_PROGRESS, {"sent": json.dumps(sent)})

    # What the sweep does.

    async def requeue_lost(self, *, overdue_before: datetime, policy: RetryPolicy) -> list[Change]:
        """Take generations from workers whose leases ran out before a time: back to the queue, or FAILED for good."""
        parameters = {"overdue_before": overdue_before, "rows": SWEEP_ROWS, **_policy(policy), **self._end()}
        return _changes((await self._database.execute(_REQUEUE_LOST, parameters)).mappings())

    async def expire(self, *, overdue_before: datetime) -> list[Change]:
        """Expire generations whose deadlines passed before a time."""
        parameters = {"overdue_before": overdue_before, "rows": SWEEP_ROWS, **self._end()}
        return _changes((await self._database.execute(_EXPIRE, parameters)).mappings())

    async def get_time(self) -> datetime:
        """Read the database's clock."""
        time: datetime = (await self._database.execute(text("SELECT now()"))).scalar_one()
        return time

    def _end(self) -> dict[str, Any]:
        return {"retention": self._retention}

    async def _change(self, statement: TextClause, parameters: dict[str, Any]) -> Change | None:
        changes = _changes((await self._database.execute(statement, parameters)).mappings())
        return changes[0] if changes else None


def _changes(rows: Any) -> list[Change]:
    return [
        Change(
            generation_id=row["id"],
            revision=row["revision"],
            state=State(row["state"]),
            model=row["model"],
            failure_reason=row.get("failure_reason"),
        )
        for row in rows
    ]


def _arrays(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    return {"ids": [one.generation_id for one in attempts], "numbers": [one.number for one in attempts]}


def _policy(policy: RetryPolicy) -> dict[str, Any]:
    return {"max_lost": policy.max_lost_attempts, "backoff": policy.backoff, "max_backoff": MAX_BACKOFF}


# In the order of their request_ids, so that statements with the same ones wait for one another and never in a circle.
_CREATE = text("""
    WITH sent AS MATERIALIZED (
        SELECT uuidv7() AS id, *
        FROM jsonb_to_recordset(CAST(:sent AS jsonb)) AS sent (
            position integer, owner text, request_id text, model text, priority integer, timeout_seconds float8,
            spec jsonb, resolved_spec jsonb, retried_from uuid
        )
    ), created AS (
        INSERT INTO generations
            (id, owner, request_id, model, priority, spec, resolved_spec, retried_from, deadline_time)
        SELECT id, owner, request_id, model, priority, spec, resolved_spec, retried_from,
               now() + make_interval(secs => timeout_seconds)
        FROM sent ORDER BY owner, request_id
        ON CONFLICT (owner, request_id) DO NOTHING
        RETURNING id, create_time, deadline_time
    )
    SELECT created.id, create_time, deadline_time FROM sent LEFT JOIN created USING (id) ORDER BY position
""")

_WITH_ATTEMPT = "FROM generations LEFT JOIN attempts ON attempts.generation_id = id AND attempts.number = attempt"

_FIND_REQUEST = text(f"""
    SELECT generations.*, attempts.progress {_WITH_ATTEMPT} WHERE owner = :owner AND request_id = :request_id
""")

_HISTORY = text(f"""
    SELECT generations.*, attempts.progress,
           (SELECT coalesce(json_agg(events ORDER BY events.revision), '[]') FROM events
            WHERE events.generation_id = id AND events.revision > CAST(:after AS bigint)) AS events
    {_WITH_ATTEMPT} WHERE id = :id AND owner = :owner AND delete_time IS NULL
""")

_QUEUE_POSITION = text(f"""
    SELECT count(*) FROM (
        SELECT FROM generations
        WHERE model = :model AND state = 'QUEUED' AND (priority > :priority OR (priority = :priority AND id < :id))
        LIMIT {MAX_QUEUE_POSITION}
    ) AS earlier
""")

_REVISIONS = text("SELECT id, revision FROM generations WHERE id = ANY(CAST(:ids AS uuid[]))")

# One SELECT for each state, so that each has an index of its own.
_COUNT_LIVE = text("""
    SELECT model, 'QUEUED' AS state, count(*), now() - min(create_time) AS oldest
    FROM generations WHERE state = 'QUEUED' GROUP BY model
    UNION ALL
    SELECT model, 'RUNNING', count(*), now() - min(create_time)
    FROM generations WHERE state = 'RUNNING' GROUP BY model
""")

# The attempt of a generation that leaves RUNNING ends with it: a trigger sees to that, unless the statement says how.

#: What every change to a final state sets.
_END = "end_time = now(), lease_expire_time = NULL, purge_time = now() + CAST(:retention AS interval)"

_CANCEL = text(f"""
    UPDATE generations SET state = 'CANCELLED', {_END}
    WHERE id = :id AND owner = :owner AND state IN ('QUEUED', 'RUNNING')
    RETURNING id, revision, state, model
""")

# Which are due is materialised, so that they are chosen and locked once.
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
    UPDATE generations SET dispatched_time = now() FROM due WHERE generations.id = due.id
    RETURNING generations.id AS generation_id, model, now() - create_time AS age
""")

_UNMARK_DISPATCHED = text("""
    UPDATE generations SET dispatched_time = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'QUEUED' AND dispatched_time IS NOT NULL
      AND (CAST(:marked_before AS timestamptz) IS NULL OR dispatched_time < CAST(:marked_before AS timestamptz))
""")

_DISPATCHED = text("""
    SELECT id, dispatched_time FROM generations
    WHERE model = :model AND state = 'QUEUED' AND dispatched_time < now() - CAST(:older_than AS interval)
    ORDER BY dispatched_time LIMIT 1000
""")

_CLAIM = text("""
    WITH claimed AS (
        UPDATE generations
        SET state = 'RUNNING', attempt = attempt + 1, claim_id = :claim_id, dispatched_time = NULL,
            lease_expire_time = now() + CAST(:lease AS interval), start_time = coalesce(start_time, now())
        WHERE id = :id AND state = 'QUEUED' AND available_time <= now()
          AND (deadline_time IS NULL OR deadline_time > now())
        RETURNING id, attempt, resolved_spec, lost_attempts, revision, model
    ), started AS (
        INSERT INTO attempts (generation_id, number, worker_id, claim_id, object_prefix)
        SELECT id, attempt, :worker_id, :claim_id, 'results/' || id || '/' || attempt || '-' || :nonce || '/'
        FROM claimed
        RETURNING generation_id, object_prefix
    )
    SELECT generation_id, attempt, resolved_spec, object_prefix, lost_attempts > 0 AS alone, revision, model
    FROM claimed JOIN started ON id = generation_id
""")

_STANDING = text(f"""
    SELECT id AS generation_id, state, generations.claim_id, attempt, resolved_spec, object_prefix, revision, model,
           lost_attempts > 0 AS alone, available_time - now() AS wait,
           coalesce(deadline_time <= now(), false) AS expired
    {_WITH_ATTEMPT} WHERE id = :id
""")

_RENEW = text("""
    UPDATE generations SET lease_expire_time = now() + CAST(:lease AS interval)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[])) AS held (held_id, number)
    WHERE id = held_id AND state = 'RUNNING' AND attempt = number
    RETURNING id, attempt
""")

_RELEASE = text("""
    WITH released AS (
        UPDATE generations
        SET state = 'QUEUED', available_time = now(), dispatched_time = NULL, lease_expire_time = NULL
        FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[])) AS held (held_id, number)
        WHERE id = held_id AND state = 'RUNNING' AND attempt = number
        RETURNING id, attempt, revision, state, model
    ), ended AS (
        UPDATE attempts SET outcome = 'RELEASED', end_time = now() FROM released
        WHERE generation_id = id AND attempts.number = attempt
    )
    SELECT id, revision, state, model FROM released
""")

_SUCCEED = text(f"""
    WITH target AS (
        SELECT id FROM generations
        WHERE id = :id AND state IN ('QUEUED', 'RUNNING')
          AND EXISTS (SELECT FROM attempts WHERE generation_id = :id AND number = :attempt)
        FOR UPDATE
    ), won AS (
        UPDATE generations
        SET state = 'SUCCEEDED', images = CAST(:images AS jsonb), phase_times = CAST(:phase_times AS jsonb),
            {_END}
        FROM target WHERE generations.id = target.id AND generations.state IN ('QUEUED', 'RUNNING')
        RETURNING generations.id, revision, state, model
    ), ended AS (
        UPDATE attempts SET outcome = 'SUCCEEDED', end_time = now() FROM target
        WHERE generation_id = target.id AND number = :attempt
    )
    SELECT id, revision, state, model FROM won
""")

# lost_attempts counts the loss that made a request run alone, then those while alone. The wait grows with all attempts.
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

# What is not the request's fault is tried again for as long as it takes.
_GIVEN_UP = "(NOT :retryable OR (:losses > 0 AND lost_attempts >= :max_lost))"

_FAIL = text(f"""
    WITH failed AS (
        UPDATE generations SET {_LOSE.format(given_up=_GIVEN_UP, losses=":losses")},
            failure = CASE WHEN {_GIVEN_UP} THEN CAST(:failure AS jsonb) END
        WHERE id = :id AND state = 'RUNNING' AND attempt = :attempt
        RETURNING id, attempt, revision, state, model, failure ->> 'reason' AS failure_reason
    ), ended AS (
        UPDATE attempts SET outcome = 'FAILED', end_time = now() FROM failed
        WHERE generation_id = id AND number = attempt
    )
    SELECT id, revision, state, model, failure_reason FROM failed
""")

_REQUEUE_LOST = text(f"""
    WITH lost AS (
        UPDATE generations SET {_LOSE.format(given_up="lost_attempts >= :max_lost", losses=1)},
            failure = CASE WHEN lost_attempts >= :max_lost THEN jsonb_build_object(
                'reason', 'FAILURE_REASON_DEAD_LETTER',
                'message', 'given up: ' || (lost_attempts + 1) || ' attempts were lost, the last ones drawn alone'
            ) END
        WHERE id IN (
            SELECT id FROM generations WHERE state = 'RUNNING' AND lease_expire_time < :overdue_before
            ORDER BY id LIMIT :rows FOR UPDATE SKIP LOCKED
        ) AND state = 'RUNNING' AND lease_expire_time < :overdue_before
        RETURNING id, attempt, revision, state, model, failure ->> 'reason' AS failure_reason
    ), ended AS (
        UPDATE attempts SET outcome = 'LOST', end_time = now() FROM lost
        WHERE generation_id = id AND number = attempt
    )
    SELECT id, revision, state, model, failure_reason FROM lost
""")

_EXPIRE = text(f"""
    UPDATE generations SET state = 'EXPIRED', {_END}
    WHERE id IN (
        SELECT id FROM generations WHERE state IN ('QUEUED', 'RUNNING') AND deadline_time < :overdue_before
        ORDER BY deadline_time LIMIT :rows FOR UPDATE SKIP LOCKED
    ) AND state IN ('QUEUED', 'RUNNING')
    RETURNING id, revision, state, model
""")

# Locked in the order of their ids, so that gateways with reports of the same attempts never wait in a circle.
_SAVE_PROGRESS = text("""
    WITH newer AS (
        SELECT generation_id, attempts.number, report.sequence, report.progress
        FROM attempts JOIN jsonb_to_recordset(CAST(:sent AS jsonb))
          AS report (id uuid, number integer, sequence bigint, progress jsonb)
          ON generation_id = report.id AND attempts.number = report.number
        WHERE progress_sequence < report.sequence AND outcome IS NULL
        ORDER BY generation_id FOR UPDATE OF attempts
    )
    UPDATE attempts SET progress = newer.progress, progress_sequence = newer.sequence FROM newer
    WHERE attempts.generation_id = newer.generation_id AND attempts.number = newer.number
""")

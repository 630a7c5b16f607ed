"""The record on the real PostgreSQL: the state machine and every statement of the protocol."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from easel.v1.generation_pb2 import GenerationSpec
from gateway.errors import DatabaseUnavailable
from gateway.record.attempts import Attempt, Attempts, Grant, NotYet, Refusal, RetryPolicy
from gateway.record.database import Database
from gateway.record.generation import Change, Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.models import Models
from gateway.record.queue import Queue

LEASE = timedelta(seconds=30)
#: Run out before it began.
NO_LEASE = timedelta(seconds=-1)
AT_ONCE = RetryPolicy(max_lost_attempts=3, backoff=timedelta(0))
IMAGES = [{"image": {"index": 0, "sha256": "ab"}, "object_key": "results/0.png"}]
FAILURE = {"reason": "FAILURE_REASON_MODEL_ERROR", "message": "no"}
OWNER = "default"


async def create(
    generations: Generations,
    *,
    request_id: str | None = None,
    priority: int = 0,
    timeout: timedelta | None = None,
    model: str = "tiny",
) -> Generation:
    request = NewGeneration(
        owner=OWNER,
        request_id=request_id,
        model=model,
        priority=priority,
        timeout=timeout,
        spec=GenerationSpec(prompt="a castle"),
        resolved_spec=GenerationSpec(prompt="a castle", steps=20),
    )
    (created,) = await generations.create_generations([request])
    if created is not None:
        return created
    return (await generations.find_requests(owner=OWNER, request_ids=[request_id or ""]))[request_id or ""]


async def claim(
    attempts: Attempts, generation_id: str, *, claim_id: str = "c1", lease: timedelta = LEASE
) -> Grant | Refusal | NotYet:
    return await attempts.claim(generation_id, claim_id=claim_id, worker_id="w1", nonce="n", lease=lease)


async def granted(attempts: Attempts, generation_id: str, *, lease: timedelta = LEASE) -> Attempt:
    grant = await claim(attempts, generation_id, claim_id=uuid.uuid4().hex, lease=lease)
    assert isinstance(grant, Grant)
    return Attempt(generation_id=generation_id, number=grant.attempt)


async def read(generations: Generations, generation_id: str) -> Generation:
    generation = await generations.get_generation(generation_id, owner=OWNER)
    assert generation is not None
    return generation


async def succeed(attempts: Attempts, attempt: Attempt) -> bool:
    return await attempts.succeed(attempt, images=IMAGES, phase_times={}) is not None


async def lose(attempts: Attempts, database: Database) -> Sequence[State]:
    """Judge everything that is overdue now."""
    changes = await attempts.requeue_lost(overdue_before=await attempts.get_time(), policy=AT_ONCE)
    return [change.state for change in changes]


async def outcomes(database: Database, generation_id: str) -> list[Any]:
    rows = await database.execute(
        text("SELECT outcome FROM attempts WHERE generation_id = :id ORDER BY number"), {"id": generation_id}
    )
    return list(rows.scalars())


async def until_waiting(database: Database) -> None:
    """Wait until a statement waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with asyncio.timeout(10):
        while not (await database.execute(waiting)).scalar_one():
            pass


class TestAccept:
    async def test_a_new_generation_waits(self, generations: Generations) -> None:
        generation = await create(generations)
        assert (generation.state, generation.revision, generation.attempt) == (State.QUEUED, 1, 0)
        assert await read(generations, generation.id) == generation

    async def test_the_same_request_id_finds_the_same_generation(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        first = await create(generations, request_id="r")
        attempt = await granted(attempts, first.id)
        await succeed(attempts, attempt)
        again = await create(generations, request_id="r")
        assert again.id == first.id
        assert again.state == State.SUCCEEDED

    async def test_requests_without_an_id_are_all_new(self, generations: Generations) -> None:
        assert (await create(generations)).id != (await create(generations)).id

    async def test_a_herd_with_one_request_id_makes_one_generation(self, generations: Generations) -> None:
        herd = await asyncio.gather(*(create(generations, request_id="r") for _ in range(20)))
        assert len({generation.id for generation in herd}) == 1

    async def test_owners_are_strangers(self, generations: Generations) -> None:
        generation = await create(generations)
        assert await generations.get_generation(generation.id, owner="other") is None
        assert await generations.cancel_generation(generation.id, owner="other") is None

    async def test_counts_what_is_live_by_model_and_state(
        self, generations: Generations, attempts: Attempts, queue: Queue
    ) -> None:
        assert await queue.count_live() == []
        for model in ("tiny", "tiny", "other", "tiny"):
            await create(generations, model=model)
        await generations.cancel_generation((await create(generations)).id, owner=OWNER)
        await granted(attempts, (await create(generations)).id)
        counts = {(one.model, one.state): one for one in await queue.count_live()}
        assert {key: one.count for key, one in counts.items()} == {
            ("tiny", State.QUEUED): 3,
            ("other", State.QUEUED): 1,
            ("tiny", State.RUNNING): 1,
        }
        assert all(timedelta(0) < one.oldest < timedelta(minutes=1) for one in counts.values())


class TestStateMachine:
    MOVES = {  # noqa: RUF012
        State.QUEUED: {State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED},
        State.RUNNING: {State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED},
    }

    @staticmethod
    async def put(database: Database, generation_id: str, state: State) -> None:
        statement = """
            UPDATE generations SET state = :state,
                lease_expire_time = CASE WHEN :state = 'RUNNING' THEN now() END,
                images = CASE WHEN :state = 'SUCCEEDED' THEN CAST('[]' AS jsonb) END,
                failure = CASE WHEN :state = 'FAILED' THEN CAST('{}' AS jsonb) END
            WHERE id = :id
        """
        await database.execute(text(statement), {"state": state, "id": generation_id})

    @pytest.mark.parametrize("to", State)
    @pytest.mark.parametrize("start", State)
    async def test_the_database_refuses_every_other_move(
        self, generations: Generations, database: Database, start: State, to: State
    ) -> None:
        generation = await create(generations)
        if start != State.QUEUED:
            await self.put(database, generation.id, start)
        before = await read(generations, generation.id)
        if to == start:
            return
        if to in self.MOVES.get(start, set()):
            await self.put(database, generation.id, to)
            assert (await read(generations, generation.id)).revision == before.revision + 1
        else:
            with pytest.raises(IntegrityError, match="cannot go from"):
                await self.put(database, generation.id, to)
            assert await read(generations, generation.id) == before

    @pytest.mark.parametrize(
        "assignment", ["images = '[1]'", "revision = revision + 1", "attempt = 7", "end_time = now()"]
    )
    async def test_a_final_generation_stays_as_it_is(
        self, generations: Generations, attempts: Attempts, database: Database, assignment: str
    ) -> None:
        generation = await create(generations)
        await succeed(attempts, await granted(attempts, generation.id))
        with pytest.raises(IntegrityError, match="stays as it is"):
            await database.execute(text(f"UPDATE generations SET {assignment}"))

    async def test_every_change_writes_its_event(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        await attempts.release([await granted(attempts, generation.id)])
        await succeed(attempts, await granted(attempts, generation.id))
        found = await generations.get_history(generation.id, owner=OWNER, after_revision=0)
        assert found is not None
        now, events = found
        assert [(event.revision, event.state, event.attempt) for event in events] == [
            (1, State.QUEUED, 0),
            (2, State.RUNNING, 1),
            (3, State.QUEUED, 1),
            (4, State.RUNNING, 2),
            (5, State.SUCCEEDED, 2),
        ]
        assert all(earlier.time <= later.time for earlier, later in pairwise(events))
        assert [now.as_of(event).state for event in events] == [event.state for event in events]
        assert now.as_of(events[0]).start_time is None
        assert now.as_of(events[3]).images == ()
        assert now.as_of(events[4]) == now
        found = await generations.get_history(generation.id, owner=OWNER, after_revision=4)
        assert found is not None
        assert [event.revision for event in found[1]] == [5]


class TestClaim:
    async def test_grants_what_waits(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        grant = await claim(attempts, generation.id)
        assert isinstance(grant, Grant)
        assert (grant.attempt, grant.alone, grant.resolved_spec["steps"]) == (1, False, 20)
        assert grant.object_prefix == f"results/{generation.id}/1-n/"
        running = await read(generations, generation.id)
        assert (running.state, running.attempt) == (State.RUNNING, 1)
        assert running.start_time is not None

    async def test_asking_again_gets_the_same_answer(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        first, again = [await claim(attempts, generation.id) for _ in range(2)]
        assert isinstance(first, Grant)
        assert first.is_new
        assert again == replace(first, is_new=False)

    async def test_a_claim_that_comes_again_after_its_attempt_starts_no_other(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        # A gateway that hung answers it long after its worker asked another one: nobody would draw.
        generation = await create(generations)
        grant = await claim(attempts, generation.id)
        assert isinstance(grant, Grant)
        await attempts.release([Attempt(generation_id=generation.id, number=grant.attempt)])
        assert await claim(attempts, generation.id) == Refusal.HELD
        assert await outcomes(database, generation.id) == ["RELEASED"]
        assert isinstance(await claim(attempts, generation.id, claim_id="c2"), Grant)
        assert await claim(attempts, generation.id) == Refusal.HELD

    async def test_another_worker_is_told_that_it_is_held(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        await claim(attempts, generation.id)
        assert await claim(attempts, generation.id, claim_id="c2") == Refusal.HELD

    async def test_of_many_workers_one_gets_it(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        answers = await asyncio.gather(*(claim(attempts, generation.id, claim_id=f"c{number}") for number in range(20)))
        assert sum(isinstance(answer, Grant) for answer in answers) == 1
        assert answers.count(Refusal.HELD) == 19

    async def test_what_is_final_or_unknown_is_gone(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        await generations.cancel_generation(generation.id, owner=OWNER)
        assert await claim(attempts, generation.id) == Refusal.GONE
        assert await claim(attempts, "01920000-0000-7000-8000-000000000001") == Refusal.GONE

    async def test_what_is_past_its_deadline_never_starts(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations, timeout=timedelta(seconds=-1))
        assert await claim(attempts, generation.id) == Refusal.GONE

    async def test_what_is_backing_off_is_not_yet(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id)
        policy = RetryPolicy(max_lost_attempts=3, backoff=timedelta(seconds=20))
        await attempts.fail(attempt, failure={**FAILURE, "retryable": True}, policy=policy)
        answer = await claim(attempts, generation.id, claim_id="c2")
        assert isinstance(answer, NotYet)
        assert timedelta(seconds=10) < answer.retry_after <= timedelta(seconds=20)


class TestLease:
    async def test_a_renewal_revives_what_nobody_has_judged(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id, lease=NO_LEASE)
        assert await attempts.renew([attempt], lease=LEASE) == {attempt}
        assert await lose(attempts, database) == []

    async def test_what_ran_out_goes_back_to_the_queue(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id, lease=NO_LEASE)
        assert await lose(attempts, database) == [State.QUEUED]
        assert await outcomes(database, generation.id) == ["LOST"]
        assert await attempts.renew([attempt], lease=LEASE) == set()

    async def test_what_was_not_overdue_at_the_mark_is_not_judged(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        generation = await create(generations)
        mark = await attempts.get_time()
        await granted(attempts, generation.id, lease=timedelta(0))
        assert await attempts.requeue_lost(overdue_before=mark, policy=AT_ONCE) == []

    async def test_the_next_attempt_after_a_loss_runs_alone(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        grant = await claim(attempts, generation.id, claim_id="c2")
        assert isinstance(grant, Grant)
        assert (grant.attempt, grant.alone) == (2, True)

    async def test_a_release_costs_nothing(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        (change,) = await attempts.release([await granted(attempts, generation.id)])
        assert change.state == State.QUEUED
        grant = await claim(attempts, generation.id, claim_id="c2")
        assert isinstance(grant, Grant)
        assert (grant.attempt, grant.alone) == (2, False)
        assert await outcomes(database, generation.id) == ["RELEASED", None]

    async def test_a_superseded_attempt_can_neither_renew_nor_release(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        old = await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        new = await granted(attempts, generation.id)
        assert await attempts.renew([old], lease=LEASE) == set()
        assert await attempts.renew([old, new], lease=LEASE) == {new}
        assert await attempts.release([old]) == []

    async def test_renewals_and_releases_lock_attempts_in_the_order_of_their_ids(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        # With so many that each is looked for by itself.
        await database.execute(
            text(
                "INSERT INTO generations (owner, model, priority, spec, resolved_spec, state, lease_expire_time)"
                " SELECT 'o', 'm', 0, '{}', '{}', 'RUNNING', now() FROM generate_series(1, 5000)"
            )
        )
        await database.execute(text("ANALYZE generations"))
        first, last = [await granted(attempts, (await create(generations)).id) for _ in range(2)]
        lock = text("SELECT FROM generations WHERE id = :id FOR UPDATE")
        for doing in (partial(attempts.renew, lease=LEASE), attempts.release):
            async with database.transaction() as other:
                await other.execute(lock, {"id": first.generation_id})
                running = asyncio.ensure_future(doing([last, first]))
                await until_waiting(database)
                await other.execute(lock, {"id": last.generation_id})
            assert len(await running) == 2

    async def test_losses_while_alone_end_in_a_dead_letter(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        changes: list[Change] = []
        # The first loss is not counted: it may have been a batch-mate's fault.
        for _ in range(1 + AT_ONCE.max_lost_attempts):
            await granted(attempts, generation.id, lease=NO_LEASE)
            overdue_before = await attempts.get_time()
            changes += await attempts.requeue_lost(overdue_before=overdue_before, policy=AT_ONCE)
        assert [change.state for change in changes] == [State.QUEUED, State.QUEUED, State.QUEUED, State.FAILED]
        assert [change.failure_reason for change in changes] == [None, None, None, "FAILURE_REASON_DEAD_LETTER"]
        dead = await read(generations, generation.id)
        assert dead.failure is not None
        assert dead.failure["reason"] == "FAILURE_REASON_DEAD_LETTER"

    async def test_what_passed_its_deadline_expires(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        waiting = await create(generations, timeout=timedelta(seconds=-1))
        lasting = await create(generations, timeout=timedelta(days=1))
        running = await create(generations, timeout=timedelta(days=1))
        await granted(attempts, running.id)
        passed = text("UPDATE generations SET deadline_time = now() - interval '1 second' WHERE id = :id")
        await database.execute(passed, {"id": running.id})
        changes = await attempts.expire(overdue_before=await attempts.get_time())
        assert {change.generation_id for change in changes} == {waiting.id, running.id}
        assert (await read(generations, running.id)).state == State.EXPIRED
        assert (await read(generations, lasting.id)).state == State.QUEUED
        assert await outcomes(database, running.id) == ["STOPPED"]


class TestFinish:
    async def test_a_result_finishes_it(self, generations: Generations, attempts: Attempts, database: Database) -> None:
        generation = await create(generations)
        assert await succeed(attempts, await granted(attempts, generation.id))
        done = await read(generations, generation.id)
        assert done.state == State.SUCCEEDED
        assert done.images[0].object_key == "results/0.png"
        assert done.end_time is not None
        assert await outcomes(database, generation.id) == ["SUCCEEDED"]

    async def test_the_second_result_changes_nothing(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id)
        assert await succeed(attempts, attempt)
        assert not await succeed(attempts, attempt)
        assert (await read(generations, generation.id)).revision == 3

    async def test_a_late_result_wins_over_the_attempt_that_followed(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        late = await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        current = await granted(attempts, generation.id)
        assert await succeed(attempts, late)
        assert not await succeed(attempts, current)
        assert await attempts.renew([current], lease=LEASE) == set()
        assert await outcomes(database, generation.id) == ["SUCCEEDED", "STOPPED"]

    async def test_a_late_result_finishes_what_waits_again(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        late = await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        assert await succeed(attempts, late)
        assert (await read(generations, generation.id)).state == State.SUCCEEDED

    async def test_a_result_of_an_attempt_that_never_was_is_ignored(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        generation = await create(generations)
        assert not await succeed(attempts, Attempt(generation_id=generation.id, number=1))

    async def test_a_cancelled_one_never_succeeds(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id)
        await generations.cancel_generation(generation.id, owner=OWNER)
        assert not await succeed(attempts, attempt)
        assert (await read(generations, generation.id)).state == State.CANCELLED

    async def test_a_failure_finishes_it(self, generations: Generations, attempts: Attempts) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id)
        change = await attempts.fail(attempt, failure=FAILURE, policy=AT_ONCE)
        assert change is not None
        assert (change.state, change.failure_reason) == (State.FAILED, FAILURE["reason"])
        assert (await read(generations, generation.id)).failure == FAILURE

    async def test_a_failure_without_a_reason_has_one_that_can_be_counted_and_listed(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        generation = await create(generations)
        attempt = await granted(attempts, generation.id)
        change = await attempts.fail(attempt, failure={"message": "no"}, policy=AT_ONCE)
        assert change is not None
        assert change.failure_reason == "FAILURE_REASON_UNSPECIFIED"
        failure = (await read(generations, generation.id)).failure
        assert failure == {"reason": "FAILURE_REASON_UNSPECIFIED", "message": "no"}

    async def test_a_failure_worth_a_retry_is_retried_up_to_the_limit(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        generation = await create(generations)
        changes = []
        for _ in range(1 + AT_ONCE.max_lost_attempts):
            attempt = await granted(attempts, generation.id)
            change = await attempts.fail(attempt, failure={**FAILURE, "retryable": True}, policy=AT_ONCE)
            assert change is not None
            changes.append(change)
        assert [change.state for change in changes] == [State.QUEUED, State.QUEUED, State.QUEUED, State.FAILED]
        assert [change.failure_reason for change in changes] == [None, None, None, "FAILURE_REASON_DEAD_LETTER"]

    async def test_a_failure_of_an_attempt_that_is_not_current_is_ignored(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        old = await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        assert await attempts.fail(old, failure=FAILURE, policy=AT_ONCE) is None
        await granted(attempts, generation.id)
        assert await attempts.fail(old, failure=FAILURE, policy=AT_ONCE) is None
        assert (await read(generations, generation.id)).state == State.RUNNING

    async def test_cancel_and_finish_at_once_leave_one_final_state(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        for _ in range(20):
            generation = await create(generations)
            attempt = await granted(attempts, generation.id)
            won, cancelled = await asyncio.gather(
                succeed(attempts, attempt), generations.cancel_generation(generation.id, owner=OWNER)
            )
            assert won != (cancelled is not None)

    async def test_while_storage_is_away_a_request_is_tried_for_as_long_as_it_takes(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        generation = await create(generations)
        storage = {"reason": "FAILURE_REASON_STORAGE", "message": "no", "retryable": True}
        for _ in range(3 + AT_ONCE.max_lost_attempts):
            attempt = await granted(attempts, generation.id)
            change = await attempts.fail(attempt, failure=storage, policy=AT_ONCE)
            assert change is not None
            assert change.state == State.QUEUED
        grant = await claim(attempts, generation.id)
        assert isinstance(grant, Grant)
        assert not grant.alone

    async def test_a_cancel_that_waits_for_a_claim_ends_its_attempt(
        self, generations: Generations, database: Database, record_url: str
    ) -> None:
        generation = await create(generations)
        async with await psycopg.AsyncConnection.connect(record_url) as claiming:
            await claiming.execute(
                "UPDATE generations SET state = 'RUNNING', attempt = 1, lease_expire_time = now() WHERE id = %s",
                [generation.id],
            )
            cancelling = asyncio.ensure_future(generations.cancel_generation(generation.id, owner=OWNER))
            await until_waiting(database)
            await claiming.execute(
                "INSERT INTO attempts (generation_id, number, worker_id, claim_id, object_prefix)"
                " VALUES (%s, 1, 'w', 'c', 'p')",
                [generation.id],
            )
        assert await cancelling is not None
        assert await outcomes(database, generation.id) == ["STOPPED"]

    async def test_cancelling_again_changes_nothing(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        generation = await create(generations)
        await granted(attempts, generation.id)
        assert await generations.cancel_generation(generation.id, owner=OWNER) is not None
        assert await generations.cancel_generation(generation.id, owner=OWNER) is None
        assert await outcomes(database, generation.id) == ["STOPPED"]


class TestDispatch:
    @staticmethod
    async def report(models: Models, worker_id: str, *, slots: int, model: str = "tiny") -> None:
        await models.report(worker_id=worker_id, slots=slots, free_slots=0, models=[(model, {"name": model})])

    async def test_nothing_goes_out_without_a_live_worker(
        self, generations: Generations, queue: Queue, models: Models
    ) -> None:
        await create(generations)
        assert await queue.mark_dispatched(liveness=LEASE) == []
        await self.report(models, "w1", slots=1)
        assert await queue.mark_dispatched(liveness=timedelta(0)) == []
        assert len(await queue.mark_dispatched(liveness=LEASE)) == 1

    async def test_twice_the_slots_go_out_by_priority_and_age(
        self, generations: Generations, attempts: Attempts, queue: Queue, models: Models
    ) -> None:
        await self.report(models, "w1", slots=1)
        await self.report(models, "w2", slots=1)
        waiting = [await create(generations, priority=priority) for priority in (0, 0, 5, 0, 1)]
        hints = await queue.mark_dispatched(liveness=LEASE)
        assert all(timedelta(0) < hint.age < timedelta(minutes=1) for hint in hints)
        assert {hint.generation_id for hint in hints} == {waiting[index].id for index in (2, 4, 0, 1)}
        assert await queue.mark_dispatched(liveness=LEASE) == []
        await claim(attempts, waiting[2].id)
        (hint,) = await queue.mark_dispatched(liveness=LEASE)
        assert hint.generation_id == waiting[3].id

    async def test_one_model_never_blocks_another(self, generations: Generations, queue: Queue, models: Models) -> None:
        await self.report(models, "w1", slots=1, model="busy")
        for _ in range(5):
            await create(generations, model="busy")
        await queue.mark_dispatched(liveness=LEASE)
        await self.report(models, "w2", slots=1)
        generation = await create(generations)
        assert [hint.generation_id for hint in await queue.mark_dispatched(liveness=LEASE)] == [generation.id]

    async def test_two_dispatchers_never_take_the_same(
        self, generations: Generations, queue: Queue, models: Models
    ) -> None:
        await self.report(models, "w1", slots=50)
        for _ in range(20):
            await create(generations)
        both = await asyncio.gather(*(queue.mark_dispatched(liveness=LEASE) for _ in range(2)))
        ids = [change.generation_id for marked in both for change in marked]
        assert len(ids) == len(set(ids)) == 20

    async def test_lost_hints_are_unmarked_unless_marked_anew(
        self, generations: Generations, attempts: Attempts, queue: Queue, models: Models
    ) -> None:
        await self.report(models, "w1", slots=5)
        generation = await create(generations)
        before = await attempts.get_time()
        await queue.mark_dispatched(liveness=LEASE)
        dispatched = await queue.get_dispatched(older_than=timedelta(0))
        assert {model: list(marked) for model, marked in dispatched.items()} == {"tiny": [generation.id]}
        assert await queue.get_dispatched(older_than=LEASE) == {}
        assert await queue.unmark_dispatched([generation.id], marked_before=before) == 0
        assert await queue.unmark_dispatched([generation.id]) == 1
        assert len(await queue.mark_dispatched(liveness=LEASE)) == 1

    async def test_places_in_the_queue(self, generations: Generations, queue: Queue) -> None:
        first, second, urgent = [await create(generations, priority=priority) for priority in (0, 0, 1)]
        assert [await queue.get_queue_position(one) for one in (urgent, first, second)] == [0, 1, 2]


class TestProgress:
    async def test_a_later_report_replaces_an_earlier_one_and_never_the_reverse(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        attempt = await granted(attempts, (await create(generations)).id)
        for sequence, step in ((2, 2), (1, 1)):
            await attempts.save_progress([(attempt, sequence, {"step": step})])
        assert (await read(generations, attempt.generation_id)).progress == {"step": 2}

    async def test_progress_of_an_attempt_that_ended_is_dropped(
        self, generations: Generations, attempts: Attempts
    ) -> None:
        attempt = await granted(attempts, (await create(generations)).id)
        await attempts.release([attempt])
        await attempts.save_progress([(attempt, 1, {"step": 1})])
        assert (await read(generations, attempt.generation_id)).progress is None

    async def test_writers_of_the_same_attempts_lock_them_in_the_order_of_their_ids(
        self, generations: Generations, attempts: Attempts, database: Database
    ) -> None:
        first, last = [await granted(attempts, (await create(generations)).id) for _ in range(2)]
        lock = text("UPDATE attempts SET worker_id = 'w2' WHERE generation_id = :id")
        # Which also puts it behind the last one in the table.
        await database.execute(lock, {"id": first.generation_id})
        async with database.transaction() as other:
            await other.execute(lock, {"id": first.generation_id})
            saving = asyncio.create_task(
                attempts.save_progress([(attempt, 1, {"step": 1}) for attempt in (last, first)])
            )
            await until_waiting(database)
            await other.execute(lock, {"id": last.generation_id})
        await saving
        assert (await read(generations, last.generation_id)).progress == {"step": 1}


class TestModels:
    async def test_models_stay_known_when_their_workers_go(self, models: Models) -> None:
        for worker in ("w1", "w2"):
            await models.report(worker_id=worker, slots=1, free_slots=1, models=[("tiny", {"name": "tiny"})])
        (known,) = await models.list_models(liveness=LEASE)
        assert (known.name, known.model, known.live_workers) == ("tiny", {"name": "tiny"}, 2)
        await models.forget_worker("w1")
        await models.forget_silent_workers(timedelta(0))
        (known,) = await models.list_models(liveness=LEASE)
        assert known.live_workers == 0


class TestDatabase:
    async def test_a_statement_that_takes_too_long_is_left_alone(self, record_url: str) -> None:
        outages = Mock()
        database = Database(record_url, pool_size=1, timeout_seconds=0.2, on_unavailable=outages)
        with pytest.raises(DatabaseUnavailable):
            await database.execute(text("SELECT pg_sleep(60)"))
        outages.assert_called_once()
        await database.close()

    async def test_a_pool_that_is_used_up_is_unavailable(self, record_url: str) -> None:
        database = Database(record_url, pool_size=1, timeout_seconds=0.5)
        async with database._engine.connect():
            with pytest.raises(DatabaseUnavailable):
                await database.execute(text("SELECT 1"))
        await database.close()

    async def test_a_missing_schema_is_unavailable_and_a_defect_is_a_defect(self, record_url: str) -> None:
        outages = Mock()
        database = Database(record_url, pool_size=1, timeout_seconds=10, on_unavailable=outages)
        with pytest.raises(DatabaseUnavailable):
            await database.execute(text("SELECT * FROM nothing"))
        with pytest.raises(DBAPIError):
            await database.execute(text("SELECT 1 / 0"))
        outages.assert_called_once()
        await database.close()

    async def test_errors_do_not_show_their_parameters(self, database: Database) -> None:
        with pytest.raises(DBAPIError) as failed:
            await database.execute(text("SELECT CAST(:prompt AS integer)"), {"prompt": "secret"})
        assert "[parameters: " not in str(failed.value)
        assert "hide_parameters" in str(failed.value)

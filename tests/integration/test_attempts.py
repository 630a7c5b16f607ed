"""Attempts on the real PostgreSQL: what each reason to fail leads to, and what can be read of them afterwards."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from easel.failures import REMEDIES, Remedy, make_failure
from easel.v1.generation_pb2 import Failure, FailureReason
from gateway.record.attempts import Attempts, Grant, RetryPolicy
from gateway.record.database import Database
from gateway.record.documents import to_json
from gateway.record.generation import Generation, Outcome, State, StoredAttempt
from gateway.record.generations import Generations
from gateway.record.listing import Listing
from gateway.record.removal import Removal
from tests.integration.test_record import (
    AT_ONCE,
    NO_LEASE,
    OWNER,
    claim,
    create,
    granted,
    lose,
    read,
    succeed,
)

DEAD_LETTER = "FAILURE_REASON_DEAD_LETTER"
UNSPECIFIED = FailureReason.FAILURE_REASON_UNSPECIFIED


@pytest.fixture
def listing(database: Database) -> Listing:
    return Listing(database)


@pytest.fixture
async def generation(generations: Generations) -> Generation:
    return await create(generations)


async def fail(attempts: Attempts, generation: Generation, failure: Failure, *, policy: RetryPolicy = AT_ONCE) -> State:
    attempt = await granted(attempts, generation.id)
    change = await attempts.fail(attempt, failure=to_json(failure), policy=policy)
    assert change is not None
    return change.state


async def all_of(listing: Listing, generation: Generation) -> list[StoredAttempt]:
    found = await listing.list_attempts(generation.id, owner=OWNER, after=0, limit=100)
    assert found is not None
    return list(found)


def reasons_with(remedy: Remedy) -> list[str]:
    return [FailureReason.Name(reason) for reason in REMEDIES if REMEDIES[reason] is remedy]


class TestReasons:
    def test_every_reason_has_a_remedy(self) -> None:
        assert set(REMEDIES) == set(FailureReason.values()) - {UNSPECIFIED}

    @pytest.mark.parametrize("reason", reasons_with(Remedy.NONE))
    async def test_what_is_not_worth_a_retry_fails_at_once(
        self, generations: Generations, attempts: Attempts, listing: Listing, generation: Generation, reason: str
    ) -> None:
        failure = make_failure(FailureReason.Value(reason), "as it must")
        assert await fail(attempts, generation, failure) == State.FAILED
        assert (await read(generations, generation.id)).failure == {"reason": reason, "message": "as it must"}
        (attempt,) = await all_of(listing, generation)
        assert attempt.failure == {"reason": reason, "message": "as it must"}

    @pytest.mark.parametrize("reason", reasons_with(Remedy.RETRY))
    async def test_what_is_worth_a_retry_is_retried_alone_and_becomes_a_dead_letter(
        self, generations: Generations, attempts: Attempts, listing: Listing, generation: Generation, reason: str
    ) -> None:
        failure = make_failure(FailureReason.Value(reason), "by accident")
        states = [await fail(attempts, generation, failure) for _ in range(1 + AT_ONCE.max_lost_attempts)]
        assert states == [State.QUEUED, State.QUEUED, State.QUEUED, State.FAILED]
        dead = (await read(generations, generation.id)).failure
        assert dead is not None
        name = reason.removeprefix("FAILURE_REASON_")
        assert dead == {
            "reason": DEAD_LETTER,
            "message": f"given up: 4 attempts were lost or failed; the last one failed with {name}: by accident",
        }
        listed = await all_of(listing, generation)
        assert [attempt.alone for attempt in listed] == [False, True, True, True]
        assert [attempt.failure for attempt in listed] == [to_json(failure)] * 4
        assert to_json(failure)["retryable"]

    @pytest.mark.parametrize("reason", reasons_with(Remedy.PERSIST))
    async def test_what_says_nothing_against_a_request_is_retried_for_as_long_as_it_takes(
        self, attempts: Attempts, listing: Listing, generation: Generation, reason: str
    ) -> None:
        failure = make_failure(FailureReason.Value(reason), "for the moment")
        for _ in range(3 + AT_ONCE.max_lost_attempts):
            assert await fail(attempts, generation, failure) == State.QUEUED
        assert await succeed(attempts, await granted(attempts, generation.id))
        listed = await all_of(listing, generation)
        assert {attempt.alone for attempt in listed} == {False}
        assert [attempt.outcome for attempt in listed] == [Outcome.FAILED] * 6 + [Outcome.SUCCEEDED]

    @pytest.mark.parametrize("reason", reasons_with(Remedy.RETRY) + reasons_with(Remedy.PERSIST))
    async def test_each_retry_waits_longer_than_the_one_before(
        self, attempts: Attempts, database: Database, generation: Generation, reason: str
    ) -> None:
        waits: list[timedelta] = []
        for _ in range(3):
            failure = make_failure(FailureReason.Value(reason), "no")
            await fail(
                attempts,
                generation,
                failure,
                policy=RetryPolicy(max_lost_attempts=9, backoff=timedelta(seconds=10)),
            )
            waits += (await database.execute(text("SELECT available_time - now() FROM generations"))).scalars()
            await database.execute(text("UPDATE generations SET available_time = now()"))
        assert all(later > 1.5 * earlier for earlier, later in pairwise(waits))

    @pytest.mark.parametrize(("retryable", "state"), [(True, State.QUEUED), (False, State.FAILED)])
    async def test_of_a_worker_that_knows_no_reason_its_word_counts(
        self, attempts: Attempts, listing: Listing, generation: Generation, retryable: bool, state: State
    ) -> None:
        assert await fail(attempts, generation, Failure(message="no", retryable=retryable)) == state
        (attempt,) = await all_of(listing, generation)
        assert attempt.failure is not None
        assert attempt.failure["reason"] == "FAILURE_REASON_UNSPECIFIED"

    async def test_a_reason_of_tomorrow_is_kept(
        self, attempts: Attempts, listing: Listing, generation: Generation
    ) -> None:
        tomorrow = Failure.FromString(b"\x08\x63")  # reason 99
        assert await fail(attempts, generation, tomorrow) == State.FAILED
        (attempt,) = await all_of(listing, generation)
        assert attempt.failure == {"reason": 99}

    async def test_a_worker_may_know_that_a_retry_is_worth_it(self, attempts: Attempts, generation: Generation) -> None:
        failure = Failure(reason=FailureReason.FAILURE_REASON_OUT_OF_MEMORY, message="beside others", retryable=True)
        assert await fail(attempts, generation, failure) == State.QUEUED
        grant = await claim(attempts, generation.id)
        assert isinstance(grant, Grant)
        assert grant.alone

    async def test_losses_and_failures_count_together(
        self, generations: Generations, attempts: Attempts, database: Database, generation: Generation
    ) -> None:
        internal = make_failure(FailureReason.FAILURE_REASON_INTERNAL, "by accident")
        storage = make_failure(FailureReason.FAILURE_REASON_STORAGE, "away")
        for failure in (internal, storage, internal):
            assert await fail(attempts, generation, failure) == State.QUEUED
        for state in (State.QUEUED, State.FAILED):
            await granted(attempts, generation.id, lease=NO_LEASE)
            assert await lose(attempts, database) == [state]
        dead = (await read(generations, generation.id)).failure
        assert dead == {
            "reason": DEAD_LETTER,
            "message": "given up: 4 attempts were lost or failed; the last one was lost with its worker",
        }


class TestReading:
    async def test_how_each_ended(
        self, generations: Generations, attempts: Attempts, database: Database, listing: Listing
    ) -> None:
        generation = await create(generations)
        await attempts.release([await granted(attempts, generation.id)])
        await granted(attempts, generation.id, lease=NO_LEASE)
        await lose(attempts, database)
        await fail(attempts, generation, make_failure(FailureReason.FAILURE_REASON_INTERNAL, "by accident"))
        running = await granted(attempts, generation.id)
        await attempts.save_progress([(running, 1, {"step": 2})])
        listed = await all_of(listing, generation)
        assert [(attempt.number, attempt.outcome, attempt.alone) for attempt in listed] == [
            (1, Outcome.RELEASED, False),
            (2, Outcome.LOST, False),
            (3, Outcome.FAILED, True),
            (4, None, True),
        ]
        assert [attempt.failure is None for attempt in listed] == [True, True, False, True]
        assert {attempt.worker_id for attempt in listed} == {"w1"}
        assert listed[3].progress == {"step": 2}
        assert [attempt.end_time is None for attempt in listed] == [False, False, False, True]
        await generations.cancel_generation(generation.id, owner=OWNER)
        assert (await all_of(listing, generation))[3].outcome == Outcome.STOPPED

    async def test_page_by_page(self, attempts: Attempts, listing: Listing, generation: Generation) -> None:
        assert await all_of(listing, generation) == []
        for _ in range(3):
            await attempts.release([await granted(attempts, generation.id)])

        async def page(after: int) -> list[int]:
            found = await listing.list_attempts(generation.id, owner=OWNER, after=after, limit=2)
            assert found is not None
            return [attempt.number for attempt in found]

        assert [await page(after) for after in (0, 2, 3, 2**40)] == [[1, 2], [3], [], []]

    async def test_of_what_is_unknown_or_deleted_or_of_somebody_else_there_is_nothing(
        self, attempts: Attempts, database: Database, listing: Listing, generation: Generation
    ) -> None:
        await fail(attempts, generation, Failure(message="about castles"))

        async def found(generation_id: str, **whose: Any) -> bool:
            query = {"owner": OWNER, "after": 0, "limit": 1, **whose}
            return await listing.list_attempts(generation_id, **query) is not None

        assert await found(generation.id)
        assert not await found(generation.id, owner="other")
        assert not await found("01920000-0000-7000-8000-000000000001")
        await Removal(database).delete_generation(generation.id, owner=OWNER, immediately=False)
        assert not await found(generation.id)
        kept = (await database.execute(text("SELECT failure FROM attempts"))).scalars().one()
        assert kept == {"reason": "FAILURE_REASON_UNSPECIFIED"}

    async def test_what_a_gateway_of_the_version_before_writes_is_read(
        self, database: Database, listing: Listing, generation: Generation
    ) -> None:
        # Its statements, which know of no further columns.
        for statement in (
            "UPDATE generations SET state = 'RUNNING', attempt = 1, lease_expire_time = now()",
            "INSERT INTO attempts (generation_id, number, worker_id, claim_id, object_prefix)"
            " SELECT id, 1, 'w1', 'c1', 'results/' FROM generations",
            "UPDATE attempts SET outcome = 'FAILED', end_time = now()",
        ):
            await database.execute(text(statement))
        (attempt,) = await all_of(listing, generation)
        assert (attempt.outcome, attempt.failure, attempt.alone) == (Outcome.FAILED, None, None)

    async def test_what_a_gateway_of_the_version_after_writes_is_read(
        self, database: Database, listing: Listing, attempts: Attempts, generation: Generation
    ) -> None:
        await granted(attempts, generation.id)
        for statement in (
            "ALTER TABLE attempts DROP CONSTRAINT attempts_outcome_known_check",
            "UPDATE attempts SET outcome = 'HANDED_BACK', end_time = now()",
        ):
            await database.execute(text(statement))
        (attempt,) = await all_of(listing, generation)
        assert attempt.outcome is None
        assert attempt.end_time is not None

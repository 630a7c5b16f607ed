"""Deletion, retention and objects on the real PostgreSQL and the real S3."""

import io
from datetime import timedelta

import psycopg
import pytest
from minio import Minio
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from easel import objects
from easel.embedded import Servers
from easel.embedded.s3 import BUCKET
from easel.settings import Settings
from easel.v1.generation_pb2 import GenerationSpec
from gateway.bucket import Bucket, StorageUnavailable
from gateway.record.attempts import Attempt, Attempts, Grant, RetryPolicy
from gateway.record.database import Database
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.removal import _DUE, Removal
from gateway.retention import Retention

OWNER = "default"
NOW = timedelta(0)
DAY = timedelta(days=1)
#: A retention that has run out before it began.
PAST = timedelta(seconds=-1)


@pytest.fixture
def removal(database: Database) -> Removal:
    return Removal(database)


@pytest.fixture
def client(servers: Servers) -> Minio:
    settings = Settings(s3_access_key=servers.s3.access_key, s3_secret_key=SecretStr(servers.s3.secret_key))
    return objects.connect(settings, endpoint=servers.s3.endpoint)


async def create(generations: Generations, *, request_id: str | None = None) -> Generation:
    request = NewGeneration(
        owner=OWNER,
        request_id=request_id,
        model="tiny",
        priority=0,
        timeout=None,
        spec=GenerationSpec(prompt="a secret castle", labels={"team": "art"}),
        resolved_spec=GenerationSpec(prompt="a secret castle"),
    )
    (created,) = await generations.create_generations([request])
    assert created is not None
    return created


async def claim(attempts: Attempts, generation: Generation, *, claim_id: str = "c") -> tuple[Attempt, str]:
    """Claim a generation and return the attempt with its prefix."""
    grant = await attempts.claim(generation.id, claim_id=claim_id, worker_id="w", nonce=claim_id, lease=DAY)
    assert isinstance(grant, Grant)
    return Attempt(generation_id=generation.id, number=grant.attempt), grant.object_prefix


async def succeed(attempts: Attempts, attempt: Attempt, prefix: str) -> None:
    images = [{"image": {"index": 0}, "object_key": f"{prefix}0.png"}]
    assert await attempts.succeed(attempt, images=images, phase_times={"denoising": "1s"})


async def succeeded(
    generations: Generations, attempts: Attempts, *, request_id: str | None = None
) -> tuple[Generation, str]:
    generation = await create(generations, request_id=request_id)
    attempt, prefix = await claim(attempts, generation)
    await succeed(attempts, attempt, prefix)
    return generation, prefix


async def due(removal: Removal, *, backup_age: timedelta = NOW) -> list[str]:
    return await removal.get_due_prefixes(backup_age=backup_age, limit=100)


class TestDeletion:
    async def test_leaves_a_tombstone_that_keeps_the_request_id_and_no_secret(
        self, generations: Generations, attempts: Attempts, removal: Removal, database: Database
    ) -> None:
        generation, prefix = await succeeded(generations, attempts, request_id="r")
        assert await removal.delete_generation(generation.id, owner=OWNER, immediately=False)
        assert await generations.get_generation(generation.id, owner=OWNER) is None
        tombstone = (await generations.find_requests(owner=OWNER, request_ids=["r"]))["r"]
        assert tombstone.delete_time is not None
        row = (await database.execute(text("SELECT generations::text FROM generations"))).scalar_one()
        assert "castle" not in row
        assert "art" not in row
        assert prefix not in row
        assert await due(removal, backup_age=DAY) == []
        assert await due(removal) == [prefix]

    async def test_of_what_is_live_is_refused(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation = await create(generations)
        assert not await removal.delete_generation(generation.id, owner=OWNER, immediately=False)
        await claim(attempts, generation)
        assert not await removal.delete_generation(generation.id, owner=OWNER, immediately=True)
        assert await generations.get_generation(generation.id, owner=OWNER)

    async def test_of_another_owner_is_refused(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation, _ = await succeeded(generations, attempts)
        assert not await removal.delete_generation(generation.id, owner="other", immediately=False)

    async def test_again_may_hasten_the_objects(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation, prefix = await succeeded(generations, attempts)
        for immediately in (False, True, False):
            assert await removal.delete_generation(generation.id, owner=OWNER, immediately=immediately)
        assert await due(removal, backup_age=DAY) == [prefix]

    async def test_is_for_ever(
        self, generations: Generations, attempts: Attempts, removal: Removal, database: Database
    ) -> None:
        generation, _ = await succeeded(generations, attempts)
        await removal.delete_generation(generation.id, owner=OWNER, immediately=False)
        for change in ("delete_time = NULL", "images = '[1]'"):
            with pytest.raises(DBAPIError, match="stays"):
                await database.execute(text(f"UPDATE generations SET {change}"))

    async def test_of_what_is_live_is_refused_by_the_database_itself(
        self, generations: Generations, database: Database
    ) -> None:
        await create(generations)
        with pytest.raises(DBAPIError, match="cannot be deleted"):
            await database.execute(text("UPDATE generations SET delete_time = now()"))
        with pytest.raises(DBAPIError, match="cannot be removed"):
            await database.execute(text("DELETE FROM generations"))

    async def test_of_a_failure_forgets_its_message(
        self, generations: Generations, attempts: Attempts, removal: Removal, database: Database
    ) -> None:
        generation = await create(generations, request_id="r")
        attempt, prefix = await claim(attempts, generation)
        policy = RetryPolicy(max_lost_attempts=1, backoff=NOW)
        failure = {"reason": "FAILURE_REASON_MODEL_ERROR", "message": "cannot draw castles"}
        await attempts.fail(attempt, failure=failure, policy=policy)
        await removal.delete_generation(generation.id, owner=OWNER, immediately=True)
        tombstone = (await generations.find_requests(owner=OWNER, request_ids=["r"]))["r"]
        assert tombstone.failure == {"reason": "FAILURE_REASON_MODEL_ERROR"}
        assert await due(removal, backup_age=DAY) == [prefix]


class TestObjectsOfAttempts:
    async def test_the_winner_keeps_its_own_and_the_others_are_put_down(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation = await create(generations)
        first, lost = await claim(attempts, generation, claim_id="c1")
        await attempts.release([first])
        second, won = await claim(attempts, generation, claim_id="c2")
        assert await due(removal) == []
        await succeed(attempts, second, won)
        assert await due(removal) == [lost]

    async def test_a_late_winner_keeps_its_own(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation = await create(generations)
        first, won = await claim(attempts, generation, claim_id="c1")
        await attempts.release([first])
        _, superseded = await claim(attempts, generation, claim_id="c2")
        await succeed(attempts, first, won)
        assert await due(removal) == [superseded]

    async def test_what_a_cancelled_one_stored_is_put_down(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation = await create(generations)
        _, prefix = await claim(attempts, generation)
        await generations.cancel_generation(generation.id, owner=OWNER)
        assert await due(removal) == [prefix]

    async def test_what_was_emptied_early_comes_up_again_at_its_time(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation, prefix = await succeeded(generations, attempts)
        await removal.delete_generation(generation.id, owner=OWNER, immediately=True)
        await removal.confirm_removed([prefix], backup_age=DAY)
        assert await due(removal, backup_age=DAY) == []
        assert await due(removal) == [prefix]
        await removal.confirm_removed([prefix], backup_age=NOW)
        assert await due(removal) == []

    async def test_what_is_asked_for_now_comes_first_and_then_the_oldest(
        self, removal: Removal, database: Database
    ) -> None:
        put_down = text("INSERT INTO object_deletions VALUES (:prefix, :immediately, now() - CAST(:age AS interval))")
        for prefix, immediately, age in (
            ("new", False, 2),
            ("urgent", True, 0),
            ("old", False, 3),
            ("not yet", False, 0),
        ):
            await database.execute(put_down, {"prefix": prefix, "immediately": immediately, "age": age * DAY})
        assert await due(removal, backup_age=DAY) == ["urgent", "old", "new"]
        assert await removal.get_due_prefixes(backup_age=DAY, limit=2) == ["urgent", "old"]

    async def test_however_many_wait_only_what_is_due_is_read(self, database: Database) -> None:
        await database.execute(text("INSERT INTO object_deletions SELECT n::text FROM generate_series(1, 5000) AS n"))
        await database.execute(text("ANALYZE object_deletions"))
        explain = text(f"EXPLAIN {_DUE.text}")
        plan = "\n".join((await database.execute(explain, {"backup_age": DAY, "limit": 16})).scalars())
        assert plan.count("using object_deletions_due") == 2
        assert "Seq Scan" not in plan


class TestRetention:
    async def test_a_final_state_sets_the_time_to_go(self, database: Database) -> None:
        generations = Generations(database, retention=DAY)
        attempts = Attempts(database, retention=DAY)
        generation, _ = await succeeded(generations, attempts)
        read = await generations.get_generation(generation.id, owner=OWNER)
        assert read is not None
        assert read.end_time is not None
        assert read.purge_time == read.end_time + DAY

    async def test_every_way_to_an_end_sets_it(self, database: Database) -> None:
        generations = Generations(database, retention=DAY)
        attempts = Attempts(database, retention=DAY)
        policy = RetryPolicy(max_lost_attempts=0, backoff=NOW)
        cancelled, failed, lost = [await create(generations) for _ in range(3)]
        await generations.cancel_generation(cancelled.id, owner=OWNER)
        attempt, _ = await claim(attempts, failed, claim_id="c1")
        await attempts.fail(attempt, failure={"reason": "FAILURE_REASON_MODEL_ERROR"}, policy=policy)
        await attempts.claim(lost.id, claim_id="c2", worker_id="w", nonce="n", lease=-DAY)
        await attempts.requeue_lost(overdue_before=await attempts.get_time(), policy=policy)
        request = NewGeneration(
            owner=OWNER,
            request_id=None,
            model="tiny",
            priority=0,
            timeout=-DAY,
            spec=GenerationSpec(),
            resolved_spec=GenerationSpec(),
        )
        await generations.create_generations([request])
        await attempts.expire(overdue_before=await attempts.get_time())
        rows = await database.execute(text("SELECT state, purge_time = end_time + interval '1 day' FROM generations"))
        assert sorted(tuple(row) for row in rows) == [
            ("CANCELLED", True),
            ("EXPIRED", True),
            ("FAILED", True),
            ("FAILED", True),
        ]

    async def test_a_generation_that_goes_back_into_the_queue_gets_none(self, database: Database) -> None:
        generations = Generations(database, retention=DAY)
        attempts = Attempts(database, retention=DAY)
        generation = await create(generations)
        attempt, _ = await claim(attempts, generation)
        policy = RetryPolicy(max_lost_attempts=3, backoff=NOW)
        await attempts.fail(attempt, failure={"reason": "X", "retryable": True}, policy=policy)
        read = await generations.get_generation(generation.id, owner=OWNER)
        assert read is not None
        assert (read.state, read.purge_time) == (State.QUEUED, None)

    async def test_purges_what_is_due_and_puts_its_objects_down(self, database: Database, removal: Removal) -> None:
        kept, _ = await succeeded(Generations(database), Attempts(database, retention=DAY))
        gone, prefix = await succeeded(Generations(database), Attempts(database, retention=PAST), request_id="r")
        assert await removal.purge() == 1
        generations = Generations(database)
        assert await generations.get_generation(kept.id, owner=OWNER)
        assert await generations.get_generation(gone.id, owner=OWNER) is None
        assert await generations.find_requests(owner=OWNER, request_ids=["r"]) == {}
        assert await due(removal) == [prefix]

    async def test_a_tombstone_goes_at_the_same_time(self, database: Database, removal: Removal) -> None:
        generations = Generations(database, retention=PAST)
        attempts = Attempts(database, retention=PAST)
        generation, _ = await succeeded(generations, attempts, request_id="r")
        await removal.delete_generation(generation.id, owner=OWNER, immediately=False)
        assert await removal.purge() == 1
        assert await generations.find_requests(owner=OWNER, request_ids=["r"]) == {}

    async def test_what_ended_before_there_was_a_retention_gets_one(
        self, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        await succeeded(generations, attempts)
        waiting = await create(generations)
        assert await removal.purge() == 0
        assert await removal.schedule(PAST) == 1
        assert await removal.schedule(PAST) == 0
        assert await removal.purge() == 1
        assert await generations.get_generation(waiting.id, owner=OWNER)


class TestBucket:
    async def test_what_is_due_is_removed_and_nothing_else(
        self, client: Minio, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        generation, prefix = await succeeded(generations, attempts)
        kept, kept_prefix = await succeeded(generations, attempts)
        for key in (f"{prefix}0.png", f"{prefix}1.png", f"{kept_prefix}0.png"):
            client.put_object(BUCKET, key, io.BytesIO(b"x"), 1)
        retention = Retention(removal, Bucket(client, name=BUCKET), retention=None, backup_age=DAY)
        await removal.delete_generation(generation.id, owner=OWNER, immediately=True)
        await retention.remove_due()
        left = {one.object_name for one in client.list_objects(BUCKET, prefix="results/", recursive=True)}
        assert f"{kept_prefix}0.png" in left
        assert not {f"{prefix}0.png", f"{prefix}1.png"} & left
        assert await generations.get_generation(kept.id, owner=OWNER)

    async def test_a_bucket_that_is_not_there_is_empty(self, client: Minio) -> None:
        assert await Bucket(client, name="nobody-made-it").remove("results/x/") == 0

    async def test_a_bucket_that_is_away_leaves_it_for_the_next_time(
        self, generations: Generations, attempts: Attempts, removal: Removal, record_url: str
    ) -> None:
        generation, prefix = await succeeded(generations, attempts)
        await removal.delete_generation(generation.id, owner=OWNER, immediately=True)
        away = objects.connect(Settings(), endpoint="http://127.0.0.1:1")
        retention = Retention(removal, Bucket(away, name="easel"), retention=None, backup_age=DAY)
        with pytest.raises(StorageUnavailable):
            await retention.remove_due()
        assert await due(removal, backup_age=DAY) == [prefix]
        with psycopg.connect(record_url) as connection:
            assert connection.execute("SELECT count(*) FROM object_deletions").fetchone() == (1,)

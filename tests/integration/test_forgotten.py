"""A record that has forgotten what happened since its backup, beside workers, a stream and a bucket that have not.

Here one generation at a time is forgotten, by hand; `tests/faults/test_restore.py` restores real backups.
"""

import asyncio
import io
from datetime import timedelta

import psycopg
import pytest
from minio import Minio
from sqlalchemy import text

from easel import subjects
from easel.bus import Bus
from easel.embedded import Stack
from easel.embedded.s3 import BUCKET, REGION
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import Failure, FailureReason, GenerationSpec
from easel.v1.generation_pb2 import Generation as GenerationMessage
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.claim_pb2 import ClaimAnswer
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import Task
from gateway.record.adoption import Adoption, ForgottenAttempt
from gateway.record.attempts import Attempt, Attempts, Grant, RetryPolicy
from gateway.record.database import Database
from gateway.record.generation import Change, Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.removal import Removal
from tests.integration.calls import (
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Watcher,
    create,
    get,
    reach,
    refusal,
    spec_of,
    until,
)
from tests.integration.scripted_worker import ScriptedWorker

LEASE = timedelta(seconds=30)
AT_ONCE = RetryPolicy(max_lost_attempts=3, backoff=timedelta(0))
PICTURE = b"a picture"

# As it was accepted, or as it was claimed for the first time, with a lease that has run out since.
_FORGET = """
    SET LOCAL session_replication_role = replica;  -- without triggers, which would not have it
    DELETE FROM events WHERE generation_id = %(id)s AND revision > %(revision)s;
    DELETE FROM attempts WHERE generation_id = %(id)s AND number >= %(revision)s;
    DELETE FROM object_deletions WHERE starts_with(object_prefix, 'results/' || %(id)s || '/');
    UPDATE attempts SET outcome = NULL, end_time = NULL WHERE generation_id = %(id)s;
    UPDATE generations
    SET state = %(state)s, revision = %(revision)s, attempt = %(revision)s - 1, lost_attempts = 0,
        claim_id = (SELECT claim_id FROM attempts WHERE generation_id = %(id)s),
        lease_expire_time = CASE WHEN %(state)s = 'RUNNING' THEN now() - interval '1 day' END,
        available_time = create_time, dispatched_time = NULL, end_time = NULL,
        images = NULL, phase_times = NULL, failure = NULL
    WHERE id = %(id)s
"""


def forget(database_url: str, generation_id: str, *, state: State = State.QUEUED) -> None:
    """Have a record know no more of a generation than that it was accepted, or claimed once."""
    revision = {State.QUEUED: 1, State.RUNNING: 2}[state]
    # A client-side cursor takes several statements with parameters.
    with psycopg.connect(database_url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_FORGET, {"id": generation_id, "state": state.value, "revision": revision})


class TestTheSameNumberOfAnotherClaim:
    """Attempt 1 of claim c1 is of the record that was lost, attempt 1 of claim c2 of the restored one."""

    @pytest.fixture
    async def two(self, record_url: str, generations: Generations, attempts: Attempts) -> tuple[Attempt, Attempt]:
        generation = await accepted(generations)
        old = await granted(attempts, generation.id, claim_id="c1")
        forget(record_url, generation.id)
        new = await granted(attempts, generation.id, claim_id="c2")
        assert (old.number, new.number) == (1, 1)
        return old, new

    async def test_only_the_one_that_is_known_is_renewed(
        self, two: tuple[Attempt, Attempt], attempts: Attempts
    ) -> None:
        assert await attempts.renew(two, lease=LEASE) == {two[1]}

    async def test_the_other_cannot_be_handed_back_in_its_place(
        self, two: tuple[Attempt, Attempt], attempts: Attempts
    ) -> None:
        assert await attempts.release([two[0]]) == []
        assert [change.state for change in await attempts.release(two)] == [State.QUEUED]

    async def test_the_other_s_failure_changes_nothing(self, two: tuple[Attempt, Attempt], attempts: Attempts) -> None:
        assert await attempts.fail(two[0], failure={"reason": "FAILURE_REASON_MODEL_ERROR"}, policy=AT_ONCE) is None
        assert await attempts.fail(two[1], failure={"reason": "FAILURE_REASON_MODEL_ERROR"}, policy=AT_ONCE)

    async def test_the_other_s_pictures_are_not_taken_for_its(
        self, two: tuple[Attempt, Attempt], attempts: Attempts
    ) -> None:
        images = [{"image": {"index": 0}, "object_key": "results/0.png"}]
        assert await attempts.succeed(two[0], images=images, phase_times={}) is None
        assert await attempts.succeed(two[1], images=images, phase_times={})

    async def test_the_other_s_progress_is_not_shown(
        self, two: tuple[Attempt, Attempt], attempts: Attempts, generations: Generations
    ) -> None:
        await attempts.save_progress([(two[0], 400, {"step": 19}), (two[1], 1, {"step": 1})])
        assert (await read(generations, two[0].generation_id)).progress == {"step": 1}

    async def test_a_worker_that_names_no_claim_yet_goes_by_the_number(
        self, two: tuple[Attempt, Attempt], attempts: Attempts
    ) -> None:
        nameless = Attempt(generation_id=two[1].generation_id, number=1)
        assert await attempts.renew([nameless], lease=LEASE) == {nameless}
        assert [change.state for change in await attempts.release([nameless])] == [State.QUEUED]


class TestAdoption:
    @pytest.fixture
    def adoption(self, database: Database) -> Adoption:
        return Adoption(database)

    async def test_what_waits_gets_the_pictures_of_an_attempt_that_was_forgotten(
        self, adoption: Adoption, generations: Generations
    ) -> None:
        generation = await accepted(generations)
        attempt = forgotten(generation.id, number=3)
        assert await adoption.wants(attempt)
        assert states(await adopt(adoption, attempt)) == [State.SUCCEEDED]
        done = await read(generations, generation.id)
        assert (done.attempt, done.images[0].object_key) == (3, f"{attempt.object_prefix}0.png")
        assert done.start_time is not None
        assert not await adoption.wants(attempt)
        assert await adopt(adoption, attempt) is None

    async def test_the_attempt_that_has_its_number_now_is_stopped_and_its_pictures_put_down(
        self, adoption: Adoption, generations: Generations, attempts: Attempts, database: Database, removal: Removal
    ) -> None:
        generation = await accepted(generations)
        await granted(attempts, generation.id, claim_id="c2")
        attempt = forgotten(generation.id, number=1)
        assert states(await adopt(adoption, attempt)) == [State.SUCCEEDED]
        rows = await database.execute(text("SELECT number, claim_id, outcome FROM attempts ORDER BY number"))
        assert [tuple(row) for row in rows] == [(1, "c2", "STOPPED"), (2, "c1", "SUCCEEDED")]
        assert await put_down(removal) == [f"results/{generation.id}/1-c2/"]

    async def test_a_claim_that_is_being_granted_is_waited_for(
        self, adoption: Adoption, generations: Generations, attempts: Attempts, record_url: str, database: Database
    ) -> None:
        generation = await accepted(generations)
        with psycopg.connect(record_url) as connection:
            connection.execute("SELECT FROM generations WHERE id = %s FOR UPDATE", [generation.id])
            claiming = asyncio.create_task(granted(attempts, generation.id, claim_id="c2"))
            await until(lambda: waiters(database, count=1))
            adopting = asyncio.create_task(adopt(adoption, forgotten(generation.id, number=1)))
            await until(lambda: waiters(database, count=2))
        assert (await claiming).number == 1
        assert states(await adopting) == [State.SUCCEEDED]

    async def test_what_is_deleted_later_takes_the_adopted_pictures_with_it(
        self, adoption: Adoption, generations: Generations, removal: Removal
    ) -> None:
        generation = await accepted(generations)
        attempt = forgotten(generation.id, number=1)
        await adopt(adoption, attempt)
        assert await put_down(removal) == []
        await removal.delete_generation(generation.id, owner="default", immediately=False)
        assert await put_down(removal) == [attempt.object_prefix]

    async def test_pictures_that_nobody_can_ask_for_are_put_down_and_no_others(
        self, adoption: Adoption, generations: Generations, attempts: Attempts, removal: Removal
    ) -> None:
        waiting, running, final = [await accepted(generations) for _ in range(3)]
        grant = await attempts.claim(running.id, claim_id="c1", worker_id="w", nonce="c1", lease=LEASE)
        assert isinstance(grant, Grant)
        await adopt(adoption, forgotten(final.id, number=1))
        gone = "0199a3c0-0000-7000-8000-000000000000"
        late = [forgotten(id_, number=7) for id_ in (waiting.id, running.id, final.id, gone)]
        known = [forgotten(running.id, number=1), forgotten(final.id, number=1)]
        assert known[0].object_prefix == grant.object_prefix
        assert [await adoption.put_down(one) for one in (*late, *known)] == [False, False, True, True, False, False]
        assert not await adoption.put_down(late[-1])
        assert await put_down(removal) == sorted([late[2].object_prefix, late[3].object_prefix])


class TestRecall:
    """A worker finished a generation, and then the record forgot."""

    async def test_what_is_drawn_already_is_not_drawn_again(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack, bucket: Minio
    ) -> None:
        task, told = await finished(client, worker, bucket)
        forget(stack.servers.postgres.url, task.generation_id)
        assert (await get(client, task.generation_id)).state == QUEUED
        generation_id, message = await worker.hint()
        assert generation_id == task.generation_id
        assert (await worker.ask(task.generation_id)).answer == ClaimAnswer.CLAIM_ANSWER_GONE
        await message.ack_sync()
        done = await get(client, task.generation_id)
        assert (done.state, done.attempt_count, done.images[0].sha256) == (SUCCEEDED, 1, told.images[0].sha256)
        assert f"{task.object_prefix}0.png?" in done.images[0].url

    @pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
    async def test_what_was_removed_since_is_drawn_again(
        self,
        client: GenerationServiceStub,
        worker: ScriptedWorker,
        stack: Stack,
        bucket: Minio,
        *,
        state: State,
    ) -> None:
        task, _ = await finished(client, worker, bucket)
        bucket.remove_object(BUCKET, f"{task.object_prefix}0.png")
        forget(stack.servers.postgres.url, task.generation_id, state=state)
        again = await worker.take()
        assert (again.generation_id, again.attempt) == (task.generation_id, {State.QUEUED: 1, State.RUNNING: 2}[state])
        assert again.object_prefix != task.object_prefix
        await deliver(worker, again, bucket)
        done = await reach(client, task.generation_id, SUCCEEDED)
        assert f"{again.object_prefix}0.png?" in done.images[0].url

    async def test_what_is_overdue_by_now_is_neither_lost_nor_expired(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack, bucket: Minio
    ) -> None:
        task, _ = await finished(client, worker, bucket, timeout=timedelta(hours=1))
        # First of all: once it runs again, it is judged at any moment.
        with psycopg.connect(stack.servers.postgres.url) as connection:
            connection.execute(
                "UPDATE generations SET deadline_time = now() - interval '1 hour' WHERE id = %s", [task.generation_id]
            )
        forget(stack.servers.postgres.url, task.generation_id, state=State.RUNNING)
        done = await reach(client, task.generation_id, SUCCEEDED)
        assert (done.attempt_count, done.revision) == (1, 3)

    async def test_a_failure_that_the_client_was_told_of_is_recalled_too(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        generation = await create(client, worker)
        failure = Failure(reason=FailureReason.FAILURE_REASON_MODEL_ERROR, message="no")
        await worker.fail(await worker.take(), failure)
        await reach(client, generation.id, FAILED)
        forget(stack.servers.postgres.url, generation.id, state=State.RUNNING)
        assert (await reach(client, generation.id, FAILED)).failure.reason == failure.reason


class TestWhoHasNotForgotten:
    """A worker still draws, or delivers, what the record has forgotten that it granted."""

    async def test_its_pictures_are_taken(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack, bucket: Minio
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        forget(stack.servers.postgres.url, generation.id)
        await deliver(worker, task, bucket)
        done = await reach(client, generation.id, SUCCEEDED)
        assert f"{task.object_prefix}0.png?" in done.images[0].url

    async def test_pictures_that_are_not_there_are_not_taken(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        forget(stack.servers.postgres.url, generation.id)
        await worker.succeed(task)
        again = await worker.take()
        assert (again.generation_id, again.attempt) == (generation.id, 1)
        await worker.succeed(again)
        done = await reach(client, generation.id, SUCCEEDED)
        assert f"{again.object_prefix}0.png?" in done.images[0].url

    async def test_it_is_told_to_stop_and_the_one_that_has_the_number_now_is_not(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        forget(stack.servers.postgres.url, generation.id)
        again = await worker.take()
        assert (task.attempt, again.attempt) == (1, 1)
        dropped = (await worker.renew(task, again)).dropped
        assert [ref.claim_id for ref in dropped] == [task.claim_id]
        await worker.fail(task, Failure(reason=FailureReason.FAILURE_REASON_MODEL_ERROR))
        await worker.release(task)
        await worker.succeed(again)
        assert (await reach(client, generation.id, SUCCEEDED)).revision == 3

    async def test_what_it_says_of_a_generation_that_is_not_known_is_of_no_consequence(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack, bucket: Minio
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        with psycopg.connect(stack.servers.postgres.url) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            for table in ("events", "attempts"):
                connection.execute(f"DELETE FROM {table} WHERE generation_id = %s", [generation.id])
            connection.execute("DELETE FROM generations WHERE id = %s", [generation.id])
        await worker.report(task, step=3)
        assert [ref.generation_id for ref in (await worker.renew(task)).dropped] == [generation.id]
        await worker.release(task)
        await deliver(worker, task, bucket)
        assert (await worker.ask(generation.id)).answer == ClaimAnswer.CLAIM_ANSWER_GONE

        async def is_put_down() -> bool:
            return task.object_prefix in await prefixes(stack)

        await until(is_put_down)
        with psycopg.connect(stack.servers.postgres.url) as connection:
            assert connection.execute("SELECT count(*) FROM unreadable_messages").fetchone() == (0,)

    async def test_what_lies_outside_of_its_place_is_never_put_down(
        self, worker: ScriptedWorker, bus: Bus, stack: Stack
    ) -> None:
        gone = "0199a3c0-0000-7000-8000-000000000001"
        before = await prefixes(stack)
        for key in ("results/0.png", "results/", "/", f"results/{'0' * 36}/1-ab/0.png", f"results/{gone}/0.png"):
            result = Result(generation_id=gone, attempt=1, worker_id="w", claim_id="c1")
            result.success.images.add(object_key=key)
            await worker._bus.publish(subjects.result(gone), result)

        async def are_projected() -> bool:
            consumer = await bus.jetstream.consumer_info(subjects.RESULTS_STREAM, subjects.PROJECTION_CONSUMER)
            return not consumer.num_pending and not consumer.num_ack_pending

        await until(are_projected)
        assert await prefixes(stack) == before


class TestWatchers:
    async def test_an_open_stream_goes_back_with_the_record_and_sees_the_end(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        await watcher.next()
        await worker.release(await worker.take())
        await worker.report(await worker.take(), step=7)
        await watcher.until_step(7)
        assert watcher.last.revision == 4
        forget(stack.servers.postgres.url, watcher.last.id)
        await watcher.until_state(QUEUED)
        await worker.succeed(await worker.take())
        assert (await watcher.to_the_end()).revision == 3
        assert watcher.states[-3:] == [QUEUED, RUNNING, SUCCEEDED]

    async def test_an_open_stream_of_what_is_not_known_any_more_ends(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        await watcher.next()
        with psycopg.connect(stack.servers.postgres.url) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute("DELETE FROM generations WHERE id = %s", [watcher.last.id])
        _, details = await refusal(watcher.to_the_end())
        assert details["ErrorInfo"].reason == "ERROR_REASON_GENERATION_NOT_FOUND"


@pytest.fixture
def removal(database: Database) -> Removal:
    return Removal(database)


@pytest.fixture
def bucket(stack: Stack) -> Minio:
    s3 = stack.servers.s3
    host = s3.endpoint.removeprefix("http://")
    return Minio(host, access_key=s3.access_key, secret_key=s3.secret_key, secure=False, region=REGION)


async def accepted(generations: Generations) -> Generation:
    spec = GenerationSpec(prompt="a castle", steps=20)
    request = NewGeneration(
        owner="default", request_id=None, model="tiny", priority=0, timeout=None, spec=spec, resolved_spec=spec
    )
    (created,) = await generations.create_generations([request])
    assert created is not None
    return created


async def read(generations: Generations, generation_id: str) -> Generation:
    generation = await generations.get_generation(generation_id, owner="default")
    assert generation is not None
    return generation


async def granted(attempts: Attempts, generation_id: str, *, claim_id: str) -> Attempt:
    grant = await attempts.claim(generation_id, claim_id=claim_id, worker_id="w", nonce=claim_id, lease=LEASE)
    assert isinstance(grant, Grant)
    return Attempt(generation_id=generation_id, number=grant.attempt, claim_id=claim_id)


def forgotten(generation_id: str, *, number: int) -> ForgottenAttempt:
    return ForgottenAttempt(
        generation_id=generation_id,
        number=number,
        worker_id="w",
        claim_id="c1",
        object_prefix=f"results/{generation_id}/{number}-c1/",
    )


async def adopt(adoption: Adoption, attempt: ForgottenAttempt) -> Change | None:
    images = [{"image": {"index": 0}, "object_key": f"{attempt.object_prefix}0.png"}]
    return await adoption.adopt(attempt, images=images, phase_times={})


def states(*changes: Change | None) -> list[State]:
    return [change.state for change in changes if change is not None]


async def put_down(removal: Removal) -> list[str]:
    return sorted(await removal.get_due_prefixes(backup_age=timedelta(0), limit=100))


async def waiters(database: Database, *, count: int) -> bool:
    """Whether so many statements wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool((await database.execute(text(waiting))).scalar_one() == count)


async def prefixes(stack: Stack) -> list[str]:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        rows = await connection.execute("SELECT object_prefix FROM object_deletions ORDER BY 1")
        return [prefix for (prefix,) in await rows.fetchall()]


async def finished(
    client: GenerationServiceStub, worker: ScriptedWorker, bucket: Minio, *, timeout: timedelta | None = None
) -> tuple[Task, GenerationMessage]:
    """Have a generation drawn, and return what its worker was told and what its client."""
    generation = await create(client, worker, **({} if timeout is None else {"timeout": timeout}))
    task = await worker.take()
    await deliver(worker, task, bucket)
    return task, await reach(client, generation.id, SUCCEEDED)


async def deliver(worker: ScriptedWorker, task: Task, bucket: Minio) -> None:
    """Store a picture, and hand in the result."""
    key = f"{task.object_prefix}0.png"
    await asyncio.to_thread(bucket.put_object, BUCKET, key, io.BytesIO(PICTURE), len(PICTURE))
    result = Result(
        generation_id=task.generation_id, attempt=task.attempt, worker_id=worker.worker_id, claim_id=task.claim_id
    )
    stored = result.success.images.add(object_key=key)
    stored.image.sha256, stored.image.size_bytes = "ab" * 32, len(PICTURE)
    await worker._bus.publish(subjects.result(task.generation_id), result)

"""Batch, list, delete, retry and one model, at two gateways on real servers with a scripted worker."""

import io
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from minio import Minio
from pydantic import SecretStr

from easel import objects
from easel.embedded import Stack
from easel.embedded.s3 import BUCKET
from easel.failures import make_failure
from easel.settings import Settings
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import AttemptOutcome, Failure, FailureReason, Generation
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.v1.model_service_pb2 import GetModelRequest
from easel.v1.model_service_pb2_grpc import ModelServiceStub
from tests.integration.calls import CANCELLED, FAILED, QUEUED, SUCCEEDED, create, get, reach, refusal, spec_of, until
from tests.integration.conftest import MAX_BACKLOG, MAX_LOST_ATTEMPTS
from tests.integration.scripted_worker import ScriptedWorker


@pytest.fixture
def bucket(stack: Stack) -> Minio:
    s3 = stack.servers.s3
    settings = Settings(s3_access_key=s3.access_key, s3_secret_key=SecretStr(s3.secret_key))
    return objects.connect(settings, endpoint=s3.endpoint)


def batch(*requests: messages.CreateGenerationRequest) -> messages.BatchCreateGenerationsRequest:
    return messages.BatchCreateGenerationsRequest(requests=requests)


def request_for(worker: ScriptedWorker, request_id: str = "", **fields: Any) -> messages.CreateGenerationRequest:
    return messages.CreateGenerationRequest(request_id=request_id, spec=spec_of(worker, **fields))


async def listed(client: GenerationServiceStub, worker: ScriptedWorker, **filters: Any) -> list[Generation]:
    request = messages.ListGenerationsRequest(models=[worker.model.name], **filters)
    return list((await client.ListGenerations(request)).generations)


async def cancelled(client: GenerationServiceStub, worker: ScriptedWorker, **fields: Any) -> Generation:
    generation = await create(client, worker, **fields)
    return (await client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id))).generation


def violated(details: dict[str, Any]) -> list[str]:
    return [one.field for one in details["BadRequest"].field_violations]


class TestBatch:
    async def test_all_are_accepted_in_order(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        requests = [request_for(worker, seed=seed) for seed in (3, 1, 2)]
        made = (await client.BatchCreateGenerations(batch(*requests))).generations
        assert [one.resolved_spec.seed for one in made] == [3, 1, 2]
        assert {one.state for one in made} == {QUEUED}
        assert [one.id for one in made] == sorted(one.id for one in made)
        assert [one.id for one in await listed(client, worker)] == [one.id for one in made][::-1]

    async def test_sent_again_it_gives_the_same(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        single = request_for(worker, uuid.uuid4().hex)
        known = (await client.CreateGeneration(single)).generation
        request = batch(request_for(worker, uuid.uuid4().hex), single)
        first = (await client.BatchCreateGenerations(request)).generations
        again = (await replica.BatchCreateGenerations(request)).generations
        assert [one.id for one in first] == [one.id for one in again]
        assert first[1].id == known.id
        assert len(await listed(client, worker)) == 2

    async def test_a_conflict_stores_nothing(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        used = uuid.uuid4().hex
        await client.CreateGeneration(request_for(worker, used, seed=1))
        request = batch(request_for(worker), request_for(worker, used, seed=2))
        code, details = await refusal(client.BatchCreateGenerations(request))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        assert details["ErrorInfo"].metadata["fields"] == "spec.seed"
        assert len(await listed(client, worker)) == 1

    async def test_every_wrong_field_of_every_request_is_named_and_nothing_stored(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        request = batch(request_for(worker), request_for(worker, steps=0), request_for(worker, "no good", width=7))
        code, details = await refusal(client.BatchCreateGenerations(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == ["requests[1].spec.steps", "requests[2].request_id", "requests[2].spec.width"]
        assert await listed(client, worker) == []

    async def test_one_request_id_twice(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        code, details = await refusal(
            client.BatchCreateGenerations(batch(request_for(worker, "r"), request_for(worker, "r")))
        )
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == ["requests[1].request_id"]

    @pytest.mark.parametrize("size", [0, 101])
    async def test_too_few_or_too_many(self, client: GenerationServiceStub, worker: ScriptedWorker, size: int) -> None:
        code, details = await refusal(client.BatchCreateGenerations(batch(*[request_for(worker)] * size)))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == ["requests"]

    async def test_a_batch_larger_than_the_room_is_refused_whole_but_found_again(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        requests = [request_for(worker, uuid.uuid4().hex) for _ in range(MAX_BACKLOG + 1)]
        code, details = await refusal(client.BatchCreateGenerations(batch(*requests)))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "RetryInfo" in details
        assert await listed(client, worker) == []
        made = (await client.BatchCreateGenerations(batch(*requests[1:]))).generations
        again = (await client.BatchCreateGenerations(batch(*requests[1:]))).generations
        assert [one.id for one in made] == [one.id for one in again]


class TestList:
    async def test_page_by_page_at_any_replica(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        made = [(await create(client, worker)).id for _ in range(3)]
        request = messages.ListGenerationsRequest(models=[worker.model.name], page_size=2)
        first = await client.ListGenerations(request)
        await create(client, worker)
        request.page_token = first.next_page_token
        second = await replica.ListGenerations(request)
        assert [one.id for one in (*first.generations, *second.generations)] == made[::-1]
        assert second.next_page_token == ""

    async def test_by_state_and_label_and_reason_and_time(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        dropped = await cancelled(client, worker, labels={"team": "art"})
        await worker.renew()
        broken = await create(client, worker)
        failure = Failure(reason=FailureReason.FAILURE_REASON_OUT_OF_MEMORY, message="no")
        await worker.fail(await worker.take(), failure)
        await reach(client, broken.id, FAILED)
        waiting = await create(client, worker, labels={"team": "art"})
        assert [one.id for one in await listed(client, worker, states=[CANCELLED])] == [dropped.id]
        assert [one.id for one in await listed(client, worker, labels={"team": "art"})] == [waiting.id, dropped.id]
        assert [one.id for one in await listed(client, worker, failure_reasons=[failure.reason])] == [broken.id]
        assert [one.id for one in await listed(client, worker, created_before=broken.create_time)] == [dropped.id]
        assert [one.id for one in await listed(client, worker, created_after=waiting.create_time)] == [waiting.id]

    async def test_carries_pictures_without_urls(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await create(client, worker)
        await worker.succeed(await worker.take())
        done = await reach(client, generation.id, SUCCEEDED)
        (one,) = await listed(client, worker)
        assert done.images[0].url
        assert one.images[0].sha256 == done.images[0].sha256
        assert not one.images[0].url

    async def test_every_wrong_field_is_named(self, client: GenerationServiceStub) -> None:
        request = messages.ListGenerationsRequest(
            page_size=1_001,
            page_token="x",
            states=[99],  # type: ignore[list-item]
            models=["no good"],
            failure_reasons=[99],  # type: ignore[list-item]
            labels={"ü": "x"},
            created_after=Timestamp(seconds=10**15),
        )
        code, details = await refusal(client.ListGenerations(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == [
            "page_size",
            "page_token",
            "states",
            "failure_reasons",
            "models",
            "labels",
            "created_after",
        ]

    async def test_a_token_of_other_filters_is_refused(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        for _ in range(2):
            await create(client, worker)
        request = messages.ListGenerationsRequest(models=[worker.model.name], page_size=1)
        request.page_token = (await client.ListGenerations(request)).next_page_token
        request.page_size = 5  # the size may change
        await client.ListGenerations(request)
        request.states.append(QUEUED)
        _, details = await refusal(client.ListGenerations(request))
        assert details["BadRequest"].field_violations[0].description == "was given out with other filters"


class TestAttempts:
    async def test_a_dead_letter_is_listed_by_its_reason_and_its_attempts_are_read(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        internal = make_failure(FailureReason.FAILURE_REASON_INTERNAL, "the worker failed: KeyError")
        for _ in range(1 + MAX_LOST_ATTEMPTS):
            await worker.fail(await worker.take(), internal)
        dead = await reach(client, generation.id, FAILED)
        assert dead.failure.reason == FailureReason.FAILURE_REASON_DEAD_LETTER
        assert "the worker failed: KeyError" in dead.failure.message
        assert not dead.failure.retryable
        (found,) = await listed(client, worker, failure_reasons=[dead.failure.reason])
        assert found == dead
        read = (await replica.ListAttempts(messages.ListAttemptsRequest(id=generation.id))).attempts
        assert [(attempt.number, attempt.alone) for attempt in read] == [(1, False), (2, True), (3, True)]
        for attempt in read:
            assert attempt.worker_id == worker.worker_id
            assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_FAILED
            assert attempt.failure == internal
            assert attempt.start_time.ToNanoseconds() < attempt.end_time.ToNanoseconds()

    async def test_one_that_is_under_way_tells_how_far_it_is(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        request = messages.ListAttemptsRequest(id=generation.id)
        assert not (await client.ListAttempts(request)).attempts
        task = await worker.take()
        await worker.report(task, step=7)

        async def is_shown() -> bool:
            (attempt,) = (await client.ListAttempts(request)).attempts
            assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_UNSPECIFIED
            assert not attempt.HasField("end_time")
            return attempt.progress.step == 7

        await until(is_shown)
        await worker.succeed(task)
        await reach(client, generation.id, SUCCEEDED)
        (attempt,) = (await client.ListAttempts(request)).attempts
        assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED
        assert not attempt.HasField("failure")
        assert not attempt.progress.HasField("eta")

    async def test_page_by_page_at_any_replica(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        await worker.fail(await worker.take(), make_failure(FailureReason.FAILURE_REASON_STORAGE, "away"))
        await worker.take()
        request = messages.ListAttemptsRequest(id=generation.id, page_size=1)
        first = await client.ListAttempts(request)
        request.page_token = first.next_page_token
        second = await replica.ListAttempts(request)
        assert [attempt.number for attempt in (*first.attempts, *second.attempts)] == [1, 2]
        assert second.next_page_token == ""
        request.id = (await create(client, worker)).id
        _, details = await refusal(client.ListAttempts(request))
        assert details["BadRequest"].field_violations[0].description == "was given out with other filters"

    async def test_what_is_wrong_is_named(self, client: GenerationServiceStub) -> None:
        request = messages.ListAttemptsRequest(id=str(uuid.uuid4()), page_size=1_001, page_token="x")
        code, details = await refusal(client.ListAttempts(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == ["page_size", "page_token"]
        code, details = await refusal(client.ListAttempts(messages.ListAttemptsRequest(id="x")))
        assert violated(details) == ["id"]
        code, _ = await refusal(client.ListAttempts(messages.ListAttemptsRequest(id=str(uuid.uuid4()))))
        assert code == grpc.StatusCode.NOT_FOUND


class TestDelete:
    async def test_it_is_gone_and_its_request_id_stays_used(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        request = request_for(worker, uuid.uuid4().hex)
        generation = (await client.CreateGeneration(request)).generation
        await client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id))
        for _ in range(2):  # it may be repeated
            await client.DeleteGeneration(messages.DeleteGenerationRequest(id=generation.id))
        for call in (
            client.GetGeneration(messages.GetGenerationRequest(id=generation.id)),
            client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id)),
            client.RetryGeneration(messages.RetryGenerationRequest(id=generation.id)),
            client.ListAttempts(messages.ListAttemptsRequest(id=generation.id)),
            client.SignImageUrls(messages.SignImageUrlsRequest(id=generation.id)),
            client.WatchGeneration(messages.WatchGenerationRequest(id=generation.id)).read(),
        ):
            code, _ = await refusal(call)
            assert code == grpc.StatusCode.NOT_FOUND
        assert await listed(client, worker) == []
        code, details = await refusal(client.CreateGeneration(request))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        assert details["ErrorInfo"].reason == "ERROR_REASON_GENERATION_DELETED"
        assert details["ErrorInfo"].metadata["id"] == generation.id

    async def test_a_live_one_is_refused(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await create(client, worker)
        code, details = await refusal(
            client.DeleteGeneration(messages.DeleteGenerationRequest(id=generation.id, immediately=True))
        )
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert details["ErrorInfo"].reason == "ERROR_REASON_GENERATION_NOT_FINAL"
        assert details["ErrorInfo"].metadata["state"] == "QUEUED"

    async def test_its_pictures_go_at_once_when_asked(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bucket: Minio
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        key = f"{task.object_prefix}0.png"
        bucket.put_object(BUCKET, key, io.BytesIO(b"picture"), len(b"picture"))
        await worker.succeed(task)
        await reach(client, generation.id, SUCCEEDED)
        await client.DeleteGeneration(messages.DeleteGenerationRequest(id=generation.id, immediately=True))

        async def removed() -> bool:
            return not list(bucket.list_objects(BUCKET, prefix=task.object_prefix, recursive=True))

        await until(removed)

    async def test_an_unknown_one(self, client: GenerationServiceStub) -> None:
        code, _ = await refusal(client.DeleteGeneration(messages.DeleteGenerationRequest(id=str(uuid.uuid4()))))
        assert code == grpc.StatusCode.NOT_FOUND


class TestRetry:
    async def test_a_new_one_with_the_spec_as_it_was_sent(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        old = await cancelled(client, worker, steps=7, labels={"team": "art"})
        request = messages.RetryGenerationRequest(id=old.id, request_id=uuid.uuid4().hex)
        new = (await client.RetryGeneration(request)).generation
        assert new.id != old.id
        assert new.retried_from == old.id
        assert new.spec == old.spec
        assert new.state == QUEUED
        assert (await replica.RetryGeneration(request)).generation.id == new.id
        assert await get(client, old.id) == old

    async def test_sent_again_after_the_old_one_was_deleted_it_gives_the_same(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        old = await cancelled(client, worker)
        request = messages.RetryGenerationRequest(id=old.id, request_id=uuid.uuid4().hex)
        new = (await client.RetryGeneration(request)).generation
        await client.DeleteGeneration(messages.DeleteGenerationRequest(id=old.id))
        assert (await client.RetryGeneration(request)).generation.id == new.id

    async def test_its_request_id_is_no_other_requests(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        old = await cancelled(client, worker)
        request_id = uuid.uuid4().hex
        await client.RetryGeneration(messages.RetryGenerationRequest(id=old.id, request_id=request_id))
        code, details = await refusal(client.CreateGeneration(request_for(worker, request_id)))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        assert details["ErrorInfo"].metadata["fields"] == "retried_from"

    async def test_a_live_one_is_refused(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await create(client, worker)
        code, details = await refusal(client.RetryGeneration(messages.RetryGenerationRequest(id=generation.id)))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert details["ErrorInfo"].reason == "ERROR_REASON_GENERATION_NOT_FINAL"

    async def test_what_the_model_does_not_take_any_more_is_refused(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        old = await cancelled(client, worker, steps=90)
        worker.model.steps.max = 50
        await worker.renew()
        async with grpc.aio.insecure_channel(stack.gateways[0].target) as channel:
            # Which also brings it to the notice of this gateway.
            model = (await ModelServiceStub(channel).GetModel(GetModelRequest(name=worker.model.name))).model
        assert model.steps.max == 50
        request = messages.RetryGenerationRequest(id=old.id)
        code, details = await refusal(client.RetryGeneration(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert violated(details) == ["spec.steps"]


class TestModel:
    async def test_one_by_its_name(self, stack: Stack, worker: ScriptedWorker) -> None:
        async with grpc.aio.insecure_channel(stack.target) as channel:
            stub = ModelServiceStub(channel)
            model = (await stub.GetModel(GetModelRequest(name=worker.model.name))).model
            assert model.name == worker.model.name
            assert model.live_workers == 1
            code, details = await refusal(stub.GetModel(GetModelRequest(name="none")))
        assert code == grpc.StatusCode.NOT_FOUND
        assert details["ErrorInfo"].reason == "ERROR_REASON_MODEL_NOT_FOUND"

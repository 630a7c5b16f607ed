"""Two gateways on real servers, with a scripted worker: what clients and workers see of the protocol."""

import asyncio
import re
import uuid
from typing import Any

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from easel import subjects
from easel.bus import Bus
from easel.embedded import Stack
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import Failure, FailureReason, GenerationSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.v1.model_service_pb2 import ListModelsRequest
from easel.v1.model_service_pb2_grpc import ModelServiceStub
from easel.worker.v1.claim_pb2 import ClaimAnswer
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import CancelNotice, Task
from gateway.settings import GatewaySettings
from gateway.sweep import HINT_PATIENCE
from tests.integration.calls import (
    CANCELLED,
    EXPIRED,
    FAILED,
    PATIENCE_SECONDS,
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
from tests.integration.conftest import LEASE_SECONDS, MAX_BACKLOG
from tests.integration.scripted_worker import ScriptedWorker
from tests.scraping import scrape


class TestTheWholeWay:
    async def test_generate_shows_every_change_and_step(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        await watcher.next()
        task = await worker.take()
        for step in range(1, 4):
            await worker.report(task, step=step)
            await watcher.until_step(step)
        await worker.succeed(task)
        done = await watcher.to_the_end()
        assert watcher.states == [QUEUED, RUNNING, SUCCEEDED]
        assert watcher.steps == [1, 2, 3]
        assert [image.sha256 for image in done.images] == ["ab" * 32]
        assert f"{task.object_prefix}0.png?" in done.images[0].url
        assert done.revision == 3

    async def test_an_attempt_that_fails_for_good_ends_the_stream_with_ok(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        failure = Failure(reason=FailureReason.FAILURE_REASON_MODEL_ERROR, message="no \0 in a prompt")
        await worker.fail(await worker.take(), failure)
        done = await watcher.to_the_end()
        assert done.state == FAILED
        assert done.failure == Failure(reason=failure.reason, message="no  in a prompt")

    async def test_progress_reaches_get_generation(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await get(client, (await create(client, worker, image_count=2)).id)
        assert generation.progress.queue_position == 0
        assert generation.progress.steps == 2 * 20
        task = await worker.take()
        await worker.report(task, step=7)

        async def arrived() -> bool:
            return (await get(client, generation.id)).progress.step == 7

        await until(arrived)

    async def test_a_watch_that_begins_late_sees_the_last_step_at_once(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        await worker.report(task, step=3)
        watcher = Watcher(client.WatchGeneration(messages.WatchGenerationRequest(id=generation.id)))
        await watcher.until_step(3)
        assert watcher.states == [RUNNING]

    async def test_models_are_listed_with_their_workers(self, stack: Stack, worker: ScriptedWorker) -> None:
        async with grpc.aio.insecure_channel(stack.target) as channel:
            answer = await ModelServiceStub(channel).ListModels(ListModelsRequest())
        models = {model.name: model for model in answer.models}
        assert list(models) == sorted(models)
        assert models[worker.model.name].live_workers == 1
        assert list(models[worker.model.name].schedulers) == ["ddim", "euler"]


class TestResume:
    async def test_any_replica_goes_on_from_a_token(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        first = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        task = await worker.take()
        await worker.report(task, step=1)
        await first.until_step(1)
        await worker.report(task, step=2)
        request = messages.WatchGenerationRequest(id=task.generation_id, resume_token=first.token)
        second = Watcher(replica.WatchGeneration(request))
        await second.until_step(2)
        assert second.steps == [2]
        await worker.succeed(task)
        await second.to_the_end()
        assert second.states == [RUNNING, SUCCEEDED]

    async def test_changes_missed_are_all_delivered_also_after_the_end(
        self, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        first = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        await first.next()
        await worker.release(await worker.take())
        await worker.succeed(await worker.take())
        await reach(client, first.last.id, SUCCEEDED)
        request = messages.WatchGenerationRequest(id=first.last.id, resume_token=first.token)
        second = Watcher(replica.WatchGeneration(request))
        await second.to_the_end()
        assert second.states == [RUNNING, QUEUED, RUNNING, SUCCEEDED]
        request.resume_token = second.token
        third = Watcher(client.WatchGeneration(request))
        await third.to_the_end()
        assert third.states == [SUCCEEDED]

    async def test_a_token_of_another_generation_is_refused(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        await watcher.next()
        other = await create(client, worker)
        request = messages.WatchGenerationRequest(id=other.id, resume_token=watcher.token)
        code, details = await refusal(client.WatchGeneration(request).read())
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in details["BadRequest"].field_violations] == ["resume_token"]


class TestRefusals:
    async def test_every_field_is_named_and_nothing_is_stored(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        spec = GenerationSpec(model=worker.model.name, prompt="", steps=0, width=7, scheduler="magic")
        request = messages.CreateGenerationRequest(request_id="not good", spec=spec)
        code, details = await refusal(client.CreateGeneration(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert {one.field for one in details["BadRequest"].field_violations} == {
            "request_id",
            "spec.prompt",
            "spec.steps",
            "spec.width",
            "spec.scheduler",
        }
        assert details["ErrorInfo"].reason == "ERROR_REASON_INVALID_REQUEST"
        with psycopg.connect(stack.servers.postgres.url) as connection:
            statement = "SELECT count(*) FROM generations WHERE model = %s"
            assert connection.execute(statement, [worker.model.name]).fetchone() == (0,)

    async def test_generate_refuses_in_the_same_way(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        request = messages.GenerateRequest(spec=spec_of(worker, steps=1000))
        code, details = await refusal(client.Generate(request).read())
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in details["BadRequest"].field_violations] == ["spec.steps"]

    async def test_unknown_ids(self, client: GenerationServiceStub) -> None:
        unknown = "01920000-0000-7000-8000-000000000001"
        for call in (
            client.GetGeneration(messages.GetGenerationRequest(id=unknown)),
            client.CancelGeneration(messages.CancelGenerationRequest(id=unknown)),
            client.SignImageUrls(messages.SignImageUrlsRequest(id=unknown)),
            client.WatchGeneration(messages.WatchGenerationRequest(id=unknown)).read(),
        ):
            code, details = await refusal(call)
            assert code == grpc.StatusCode.NOT_FOUND
            assert details["ErrorInfo"].reason == "ERROR_REASON_GENERATION_NOT_FOUND"

    async def test_pictures_of_an_unfinished_one(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await create(client, worker)
        code, details = await refusal(client.SignImageUrls(messages.SignImageUrlsRequest(id=generation.id)))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert details["ErrorInfo"].metadata["state"] == "QUEUED"

    async def test_a_request_id_used_for_something_else(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        request = messages.CreateGenerationRequest(request_id=uuid.uuid4().hex, spec=spec_of(worker, seed=1))
        first = (await client.CreateGeneration(request)).generation
        assert (await client.CreateGeneration(request)).generation.id == first.id
        request.spec.seed = 2
        code, details = await refusal(client.CreateGeneration(request))
        assert code == grpc.StatusCode.ALREADY_EXISTS
        assert dict(details["ErrorInfo"].metadata) == {"id": first.id, "fields": "spec.seed"}

    async def test_what_was_accepted_is_found_again_when_the_model_has_changed(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        request = messages.CreateGenerationRequest(request_id=uuid.uuid4().hex, spec=spec_of(worker, steps=90))
        first = (await client.CreateGeneration(request)).generation
        worker.model.steps.max = 10
        await worker.renew()
        async with grpc.aio.insecure_channel(stack.target) as channel:
            await ModelServiceStub(channel).ListModels(ListModelsRequest())  # reads the models anew
        code, _ = await refusal(create(client, worker, steps=90))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert (await client.CreateGeneration(request)).generation.id == first.id

    async def test_a_full_backlog_refuses_the_new_and_not_the_accepted(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        request = messages.CreateGenerationRequest(request_id=uuid.uuid4().hex, spec=spec_of(worker))
        first = (await client.CreateGeneration(request)).generation
        for _ in range(MAX_BACKLOG - 1):
            await create(client, worker)

        async def all_are_counted() -> bool:
            """A count that began before the last of them was committed may have forgotten that it was admitted."""
            samples = await scrape(stack.gateways[0].metrics_url)
            return samples.value("easel_backlog", model=worker.model.name, state="QUEUED") == MAX_BACKLOG

        await until(all_are_counted)
        code, details = await refusal(create(client, worker))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details["RetryInfo"].retry_delay.seconds > 0
        assert (await client.CreateGeneration(request)).generation.id == first.id


class TestCancel:
    async def test_what_waits_is_cancelled_and_its_hint_withdrawn(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus
    ) -> None:
        generation = await create(client, worker)
        subject = subjects.task(worker.model.name, generation.id)

        async def hinted() -> bool:
            info = await bus.jetstream.stream_info(subjects.TASKS_STREAM, subjects_filter=subject)
            return bool(info.state.subjects)

        await until(hinted)
        answer = await client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id))
        assert answer.generation.state == CANCELLED
        assert not await hinted()
        assert (await worker.ask(generation.id)).answer == ClaimAnswer.CLAIM_ANSWER_GONE

    async def test_a_hint_that_is_withdrawn_takes_no_other_with_it(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        waiting, cancelled = [await create(client, worker) for _ in range(2)]
        hints = dict([await worker.hint() for _ in range(2)])
        await client.CancelGeneration(messages.CancelGenerationRequest(id=cancelled.id))
        later = await create(client, worker)
        task = await worker.take()
        assert task.generation_id == later.id
        await worker.succeed(task)
        await hints[waiting.id].nak()
        # It comes again by itself, and not only when the sweep has lost patience.
        async with asyncio.timeout(HINT_PATIENCE.total_seconds() / 2):
            assert (await worker.hint())[0] == waiting.id

    async def test_what_runs_is_cancelled_at_once_and_its_worker_told(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus
    ) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def on_cancel(message: Any) -> None:
            told.put_nowait(CancelNotice.FromString(message.data).generation_id)

        await bus.subscribe(subjects.CANCEL, on_cancel)
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        task = await worker.take()
        answer = await client.CancelGeneration(messages.CancelGenerationRequest(id=task.generation_id))
        assert answer.generation.state == CANCELLED
        assert (await watcher.to_the_end()).state == CANCELLED
        while await asyncio.wait_for(told.get(), PATIENCE_SECONDS) != task.generation_id:
            pass
        # A worker that missed the notice hears of it when it renews, and what it finishes changes nothing.
        dropped = (await worker.renew(task)).dropped
        assert [ref.generation_id for ref in dropped] == [task.generation_id]
        await worker.succeed(task)
        again = await client.CancelGeneration(messages.CancelGenerationRequest(id=task.generation_id))
        assert again.generation == answer.generation

    async def test_what_is_final_stays(self, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
        generation = await create(client, worker)
        await worker.succeed(await worker.take())
        await reach(client, generation.id, SUCCEEDED)
        answer = await client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id))
        assert answer.generation.state == SUCCEEDED


class TestRepair:
    async def test_a_lost_hint_is_published_again(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus
    ) -> None:
        generation = await create(client, worker)
        _, message = await worker.hint()
        await message.ack_sync()
        assert (await worker.take()).generation_id == generation.id

    async def test_a_silent_worker_loses_its_attempt_and_cannot_get_it_back(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus
    ) -> None:
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
        silent = await worker.take()
        other = ScriptedWorker(bus, model_name=worker.model.name)
        task = await other.take()
        assert (task.generation_id, task.attempt, task.alone) == (silent.generation_id, 2, True)
        assert [ref.attempt for ref in (await worker.renew(silent)).dropped] == [1]
        await worker.report(silent, step=9)
        await other.report(task, step=1)
        await watcher.until_step(1)
        assert watcher.steps == [1]
        await other.succeed(task)
        await watcher.to_the_end()
        assert watcher.states == [QUEUED, RUNNING, QUEUED, RUNNING, SUCCEEDED]
        await other.release(leaving=True)

    async def test_a_worker_that_renews_keeps_its_attempt(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        task = await worker.take()
        async with asyncio.timeout(PATIENCE_SECONDS):
            deadline = asyncio.get_running_loop().time() + 3 * LEASE_SECONDS
            while asyncio.get_running_loop().time() < deadline:
                assert not (await worker.renew(task)).dropped
                await asyncio.sleep(LEASE_SECONDS / 4)
        assert (await get(client, generation.id)).attempt_count == 1

    async def test_an_early_result_of_a_lost_attempt_is_as_good(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        generation = await create(client, worker)
        lost = await worker.take()
        again = await worker.take()
        await worker.succeed(lost)
        done = await reach(client, generation.id, SUCCEEDED)
        assert f"{lost.object_prefix}0.png?" in done.images[0].url
        await worker.succeed(again)
        assert (await get(client, generation.id)).revision == done.revision

    async def test_what_does_not_start_in_time_expires(
        self, client: GenerationServiceStub, worker: ScriptedWorker
    ) -> None:
        spec = spec_of(worker)
        spec.timeout.FromSeconds(1)
        watcher = Watcher(client.Generate(messages.GenerateRequest(spec=spec)))
        done = await watcher.to_the_end()
        assert done.state == EXPIRED
        assert done.deadline_time.ToMilliseconds() < done.end_time.ToMilliseconds()
        assert (await worker.ask(done.id)).answer == ClaimAnswer.CLAIM_ANSWER_GONE

    async def test_a_consumer_that_was_changed_is_changed_back(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus
    ) -> None:
        await worker.release(await self._taken(client, worker))
        consumer = subjects.task_consumer(worker.model.name)
        config = (await bus.jetstream.consumer_info(subjects.TASKS_STREAM, consumer)).config
        config.ack_wait = 99.0
        await bus.jetstream.add_consumer(subjects.TASKS_STREAM, config)

        async def is_back() -> bool:
            info = await bus.jetstream.consumer_info(subjects.TASKS_STREAM, consumer)
            return bool(info.config.ack_wait == 10.0)

        await until(is_back)

    @staticmethod
    async def _taken(client: GenerationServiceStub, worker: ScriptedWorker) -> Task:
        await create(client, worker)
        return await worker.take()

    async def test_an_unreadable_result_is_stored_and_stalls_nothing(
        self, client: GenerationServiceStub, worker: ScriptedWorker, bus: Bus, stack: Stack
    ) -> None:
        subject = subjects.result(uuid.uuid4().hex)
        await bus.jetstream.publish(subject, b"\xff no message")
        # Readable, and yet nothing that PostgreSQL can store.
        generation = await create(client, worker)
        task = await worker.take()
        result = Result(generation_id=task.generation_id, attempt=task.attempt, worker_id=worker.worker_id)
        result.success.images.add(object_key="a\0b")
        await bus.publish(subjects.result(task.generation_id), result)
        other = await create(client, worker)
        while (task := await worker.take()).generation_id != other.id:
            await worker.succeed(task)
        await worker.succeed(task)
        await reach(client, other.id, SUCCEEDED)

        async def stored() -> bool:
            with psycopg.connect(stack.servers.postgres.url) as connection:
                rows = connection.execute("SELECT subject FROM unreadable_messages").fetchall()
            return {subject, subjects.result(generation.id)} <= {row[0] for row in rows}

        await until(stored)

    async def test_a_result_that_a_gateway_died_with_comes_again_after_the_time_of_a_commit(self, bus: Bus) -> None:
        # Nothing is judged while a result is under way: were it longer, the crash of a gateway would hold that up.
        consumer = await bus.jetstream.consumer_info(subjects.RESULTS_STREAM, subjects.PROJECTION_CONSUMER)
        assert consumer.config.ack_wait == 2 * GatewaySettings.model_fields["database_timeout_seconds"].default


class TestTheServer:
    async def test_health(self, stack: Stack) -> None:
        async with grpc.aio.insecure_channel(stack.target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for service in ("", "easel.v1.GenerationService", "easel.v1.ModelService"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def test_reflection_lists_the_services(self, stack: Stack) -> None:
        async with grpc.aio.insecure_channel(stack.target) as channel:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
            call = stub.ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            answer = await call.read()
            await call.done_writing()
        names = {service.name for service in answer.list_services_response.service}
        assert {"easel.v1.GenerationService", "easel.v1.ModelService", "grpc.health.v1.Health"} <= names

    async def test_logs_follow_a_generation_and_tell_no_prompt(
        self, client: GenerationServiceStub, worker: ScriptedWorker, stack: Stack
    ) -> None:
        secret = f"secret{uuid.uuid4().hex}"
        request = messages.CreateGenerationRequest(spec=GenerationSpec(model=worker.model.name, prompt=secret))
        generation = (await client.CreateGeneration(request)).generation
        await worker.succeed(await worker.take())
        await reach(client, generation.id, SUCCEEDED)

        def logs() -> str:
            return "".join(path.read_text() for path in stack.logs.glob("gateway*.log"))

        def lines() -> list[str]:
            return [line for line in logs().splitlines() if f"generation_id={generation.id}" in line]

        async def its_end_is_told() -> bool:
            return any("SUCCEEDED" in line for line in lines())

        await until(its_end_is_told)
        assert any("action=accept" in line and re.search(r"request_id=\w{12}", line) for line in lines())
        assert secret not in logs()

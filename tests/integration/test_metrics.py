"""What two gateways measure while a scripted worker draws."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BytesValue

from easel import subjects
from easel.bus import Bus
from easel.embedded import Stack
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import Failure, FailureReason
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.integration.calls import FAILED, SUCCEEDED, Watcher, create, reach, refusal, spec_of, until
from tests.integration.scripted_worker import ScriptedWorker
from tests.scraping import Samples, scrape

GENERATE = "easel.v1.GenerationService/Generate"
WATCH = "easel.v1.GenerationService/WatchGeneration"
MODEL_ERROR = Failure(reason=FailureReason.FAILURE_REASON_MODEL_ERROR, message="no")
Reading = Callable[[Samples], float]


class Fleet:
    """All gateways, as Prometheus sees them."""

    def __init__(self, stack: Stack) -> None:
        self._urls = [gateway.metrics_url for gateway in stack.gateways]

    async def each(self, reading: Reading) -> list[float]:
        return [reading(await scrape(url)) for url in self._urls]

    async def total(self, reading: Reading) -> float:
        return sum(await self.each(reading))

    async def until_each(self, reading: Reading, value: float) -> None:
        async def all_show_it() -> bool:
            return set(await self.each(reading)) == {value}

        await until(all_show_it)

    async def until_total(self, reading: Reading, value: float) -> None:
        async def they_add_up() -> bool:
            return await self.total(reading) == value

        await until(they_add_up)


@pytest.fixture
def fleet(stack: Stack) -> Fleet:
    return Fleet(stack)


def transitions(worker: ScriptedWorker, state: str) -> Reading:
    return lambda samples: samples.value("easel_transitions_total", model=worker.model.name, state=state)


def counted(name: str, **labels: str) -> Reading:
    return lambda samples: samples.value(name, **labels)


async def test_a_change_is_counted_once_among_all_replicas(
    fleet: Fleet, client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    results = counted("easel_results_total", outcome="succeeded")
    claims = counted("easel_claims_total", answer="GRANTED")
    before_results, before_claims = await fleet.total(results), await fleet.total(claims)
    model = worker.model.name
    for stub in (client, replica, client):
        generation = await create(stub, worker)
        await worker.succeed(await worker.take())
        await reach(stub, generation.id, SUCCEEDED)
    await fleet.until_total(results, before_results + 3)
    assert await fleet.total(counted("easel_accepted_total", model=model)) == 3
    assert await fleet.each(counted("easel_accepted_total", model=model)) == [2, 1]
    assert await fleet.total(claims) == before_claims + 3
    assert [await fleet.total(transitions(worker, state)) for state in ("QUEUED", "RUNNING", "SUCCEEDED")] == [0, 3, 3]
    assert await fleet.total(counted("easel_dispatch_age_seconds_count", model=model)) == 3
    assert 0 < await fleet.total(counted("easel_dispatch_age_seconds_sum", model=model)) < 10
    ends = {"model": model, "state": "SUCCEEDED"}
    assert await fleet.total(counted("easel_generation_seconds_count", **ends)) == 3
    assert 0 < await fleet.total(counted("easel_generation_seconds_sum", **ends)) < 60


async def test_a_request_sent_again_is_not_accepted_again(
    fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    request = messages.CreateGenerationRequest(request_id=worker.worker_id, spec=spec_of(worker))
    for _ in range(2):
        await client.CreateGeneration(request)
    assert await fleet.total(counted("easel_accepted_total", model=worker.model.name)) == 1


async def test_a_claim_asked_for_again_is_granted_again_and_starts_nothing_anew(
    fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    claims = counted("easel_claims_total", answer="GRANTED")
    before = await fleet.total(claims)
    generation = await create(client, worker)
    for _ in range(3):
        response = await worker.ask(generation.id, claim_id="the same")
        assert response.task.attempt == 1
    assert await fleet.total(claims) == before + 3
    assert await fleet.total(transitions(worker, "RUNNING")) == 1


async def test_the_backlog_is_the_same_on_every_replica(
    fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    model = worker.model.name
    for _ in range(3):
        await create(client, worker)
    task = await worker.take()

    async def all_show_it() -> bool:
        await worker.renew(task)  # or it is lost meanwhile, and drawn again
        states = [
            await fleet.each(counted("easel_backlog", model=model, state=state)) for state in ("QUEUED", "RUNNING")
        ]
        return states == [[2, 2], [1, 1]]

    await until(all_show_it)
    assert all(age > 0 for age in await fleet.each(counted("easel_backlog_oldest_seconds", model=model)))
    await worker.succeed(task)
    await fleet.until_each(counted("easel_backlog", model=model, state="RUNNING"), 0)


async def test_failures_are_counted_by_reason(
    fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    generation = await create(client, worker)
    await worker.fail(await worker.take(), MODEL_ERROR)
    await reach(client, generation.id, FAILED)
    failures = counted("easel_failures_total", model=worker.model.name, reason="MODEL_ERROR")
    await fleet.until_total(failures, 1)


async def test_lost_attempts_and_their_return_to_the_queue(
    fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    lost = counted("easel_attempts_lost_total")
    before = await fleet.total(lost)
    await create(client, worker)
    await worker.take()
    await fleet.until_total(transitions(worker, "QUEUED"), 1)
    # Those of other tests may run out in the same moment.
    assert await fleet.total(lost) >= before + 1


async def test_late_and_unreadable_results(
    fleet: Fleet, bus: Bus, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    late, unreadable = counted("easel_results_total", outcome="late"), counted("easel_unreadable_messages_total")
    before_late, before_unreadable = await fleet.total(late), await fleet.total(unreadable)
    generation = await create(client, worker)
    task = await worker.take()
    await client.CancelGeneration(messages.CancelGenerationRequest(id=generation.id))
    await worker.succeed(task)
    await fleet.until_total(late, before_late + 1)
    # Its first field is theirs, a text, and not in UTF-8.
    await bus.publish(subjects.result(generation.id), BytesValue(value=b"\xff"))
    await bus.tell(subjects.CLAIM, BytesValue(value=b"\xff"))
    await fleet.until_total(unreadable, before_unreadable + 2)


async def test_workers_and_the_bus(fleet: Fleet, worker: ScriptedWorker) -> None:
    live = counted("easel_live_workers", model=worker.model.name)

    async def both_count_it() -> bool:
        await worker.renew()  # or its lease ends meanwhile
        return await fleet.each(live) == [1, 1]

    await until(both_count_it)
    assert await fleet.each(counted("easel_bus_connected")) == [1, 1]
    await worker.release(leaving=True)
    await fleet.until_each(live, 0)


async def test_calls_by_method_and_code(fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
    def calls(method: str, code: str) -> Reading:
        return counted("easel_rpcs_total", method=method, code=code)

    create_method = "easel.v1.GenerationService/CreateGeneration"
    invalid, cancelled = calls(create_method, "INVALID_ARGUMENT"), calls(WATCH, "CANCELLED")
    finished = calls(GENERATE, "OK")
    before_invalid, before_cancelled = await fleet.total(invalid), await fleet.total(cancelled)
    before_finished = await fleet.total(finished)
    assert (await refusal(create(client, worker, steps=-1)))[0] == grpc.StatusCode.INVALID_ARGUMENT
    await fleet.until_total(invalid, before_invalid + 1)

    drawing = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker))))
    await drawing.next()
    watch = client.WatchGeneration(messages.WatchGenerationRequest(id=drawing.last.id))
    await watch.read()
    assert await fleet.total(counted("easel_watchers")) == 2
    watch.cancel()
    await fleet.until_total(cancelled, before_cancelled + 1)
    await worker.succeed(await worker.take())
    await drawing.to_the_end()
    await fleet.until_total(finished, before_finished + 1)
    assert await fleet.total(counted("easel_watch_lag_seconds_count")) > 0
    assert await fleet.total(counted("easel_watchers")) == 0


async def test_an_expired_one_is_counted(fleet: Fleet, client: GenerationServiceStub, worker: ScriptedWorker) -> None:
    await create(client, worker, timeout=Duration(seconds=1))
    await fleet.until_total(transitions(worker, "EXPIRED"), 1)


async def test_an_outage_of_nats_is_seen(fleet: Fleet, stack: Stack) -> None:
    stack.servers.nats.kill()
    await fleet.until_each(counted("easel_bus_connected"), 0)
    await stack.servers.nats.start()
    await fleet.until_each(counted("easel_bus_connected"), 1)


async def test_an_outage_of_the_database_is_counted(fleet: Fleet, stack: Stack) -> None:
    outages = counted("easel_database_unavailable_total")
    before = await fleet.each(outages)
    await stack.servers.postgres.stop()

    async def both_noticed() -> bool:
        return all(now > then for now, then in zip(await fleet.each(outages), before, strict=True))

    await until(both_noticed)
    await stack.servers.postgres.start()

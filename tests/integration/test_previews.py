"""Previews on their way through gateways, with a worker that shows what a test tells it to."""

from easel import subjects
from easel.bus import Bus
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import PreviewSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.task_pb2 import Task
from gateway.reports import MAX_PREVIEW_BYTES
from gateway.topology import PROGRESS_MAX_BYTES
from tests.integration.calls import Watcher, create, get, spec_of, until
from tests.integration.scripted_worker import ScriptedWorker

EVERY_STEP = PreviewSpec(every_steps=1)


def watch(client: GenerationServiceStub, generation_id: str, *, resume_token: str = "") -> Watcher:
    request = messages.WatchGenerationRequest(id=generation_id, resume_token=resume_token)
    return Watcher(client.WatchGeneration(request))


async def take(worker: ScriptedWorker, watcher: Watcher) -> Task:
    """Take the task of a watcher's generation, and go on when the watcher knows of it."""
    task = await worker.take()
    while watcher.last.attempt_count < 1:
        await watcher.next()
    return task


async def test_progress_and_then_the_preview_reach_those_who_watch_on_any_replica(
    client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    first = Watcher(client.Generate(messages.GenerateRequest(spec=spec_of(worker, preview=EVERY_STEP))))
    await first.next()
    second, other = watch(replica, first.last.id), watch(replica, (await create(client, worker)).id)
    task = await take(worker, first)
    while second.last.attempt_count < 1:
        await second.next()

    await worker.report(task, step=1)
    for watcher in (first, second):
        await watcher.until_step(1)
    for count, (step, preview) in enumerate([(1, b"one"), (2, b"two")], start=1):
        await worker.report(task, step=step, preview=preview)
        for watcher in (first, second):
            while len(watcher.previews) < count:
                await watcher.next()

    for watcher in (first, second):
        assert watcher.steps == [1, 2]
        assert [(one.attempt, one.step, one.content_type, one.data) for one in watcher.previews] == [
            (1, 1, "image/jpeg", b"one"),
            (1, 2, "image/jpeg", b"two"),
        ]
    await worker.succeed(task)
    assert (await first.to_the_end()).images[0].url
    await worker.succeed(await worker.take())
    await other.to_the_end()
    assert other.previews == []


async def test_a_preview_past_the_cap_is_left_out_and_its_progress_is_not(
    client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    watcher = watch(client, (await create(client, worker, preview=EVERY_STEP)).id)
    task = await take(worker, watcher)

    await worker.report(task, step=1, preview=bytes(MAX_PREVIEW_BYTES + 1))
    await watcher.until_step(1)
    await worker.report(task, step=2, preview=bytes(MAX_PREVIEW_BYTES))
    await watcher.until_step(2)
    await watcher.next()

    assert [len(one.data) for one in watcher.previews] == [MAX_PREVIEW_BYTES]


async def test_a_watch_that_begins_late_or_goes_on_sees_the_last_preview_once(
    client: GenerationServiceStub, replica: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    generation = await create(client, worker, preview=EVERY_STEP)
    task = await worker.take()
    await worker.report(task, step=3, preview=b"three")

    late = watch(client, generation.id)
    while not late.previews:
        await late.next()
    resumed = watch(replica, generation.id, resume_token=late.token)
    await resumed.next()
    await worker.report(task, step=4)
    await resumed.until_step(4)

    assert late.steps == [3]
    assert [one.data for one in late.previews] == [b"three"]
    assert resumed.previews == []
    assert resumed.steps == [4]


async def test_the_record_has_the_progress_and_nothing_of_the_preview(
    client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    generation = await create(client, worker, preview=EVERY_STEP)
    task = await worker.take()
    await worker.report(task, step=5, preview=b"a picture that nobody keeps")

    async def arrived() -> bool:
        return (await get(client, generation.id)).progress.step == 5

    await until(arrived)
    assert b"a picture that nobody keeps" not in (await get(client, generation.id)).SerializeToString()


async def test_the_memory_of_progress_is_bounded(bus: Bus, worker: ScriptedWorker) -> None:
    config = (await bus.jetstream.stream_info(subjects.PROGRESS_STREAM)).config

    assert (config.max_msgs_per_subject, config.max_bytes) == (1, PROGRESS_MAX_BYTES)

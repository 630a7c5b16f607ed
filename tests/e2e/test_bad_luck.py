"""What bad luck gets: every part is killed while a picture is drawn, and the picture arrives, once.

Everything is real here: the processes, the servers, the model and the client.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from minio import Minio
from PIL import Image

from easel.bus import Bus
from easel.client import Client, Event, Unavailable
from easel.embedded import Stack
from easel.subjects import progress as progress_subject
from easel.v1.generation_messages_pb2 import GenerateRequest
from easel.v1.generation_pb2 import Generation, GenerationSpec, GenerationState
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.progress_pb2 import ProgressReport

#: Drawing takes some seconds: long enough for things to happen in the middle of it.
STEPS = 150
PATIENCE_SECONDS = 60.0

QUEUED = GenerationState.GENERATION_STATE_QUEUED
RUNNING = GenerationState.GENERATION_STATE_RUNNING
SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED
CANCELLED = GenerationState.GENERATION_STATE_CANCELLED


def long_spec() -> GenerationSpec:
    return GenerationSpec(prompt="a castle", steps=STEPS, seed=7)


class Story:
    """What a client is told of one generation, kept as it comes."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self.states: list[int] = []
        self.revisions: list[int] = []
        self.generation = Generation()
        self.step = 0

    async def until_step(self, step: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self._events:
                self._note(event)
                if event.progress is not None and event.progress.step >= step:
                    return
        raise AssertionError(f"ended before step {step}")

    async def to_the_end(self) -> Generation:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self._events:
                self._note(event)
        return self.generation

    def _note(self, event: Event) -> None:
        self.generation = event.generation
        if event.progress is not None:
            self.step = event.progress.step
        else:
            self.states.append(event.generation.state)
            self.revisions.append(event.generation.revision)


def objects_of(stack: Stack, generation_id: str) -> list[str]:
    """List what lies in the bucket for a generation."""
    s3 = stack.servers.s3
    minio = Minio(
        s3.endpoint.removeprefix("http://"),
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        secure=False,
        region="us-east-1",
    )
    found = minio.list_objects("easel", prefix=f"results/{generation_id}/", recursive=True)
    return [str(one.object_name) for one in found]


async def assert_one_picture(client: Client, stack: Stack, generation: Generation, folder: Path) -> None:
    """The generation has exactly one picture, stored once, and it arrives whole."""
    assert generation.state == SUCCEEDED, generation
    (image,) = generation.images
    path = await client.download(generation, folder / "picture.png")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == image.sha256
    with Image.open(path) as picture:
        assert picture.size == (image.width, image.height)
    assert len(objects_of(stack, generation.id)) == 1


async def test_the_worker_is_killed(client: Client, stack: Stack, tmp_path: Path) -> None:
    (worker,) = stack.workers
    # The plain stub: this stream must not break.
    stream = GenerationServiceStub(client._channel).Generate(GenerateRequest(spec=long_spec()))
    states, attempts, generation = [], [], Generation()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for message in stream:
            if message.HasField("generation"):
                generation = message.generation
                states.append(generation.state)
            elif worker.is_running and message.progress.step >= 5 and message.progress.attempt == 1:
                worker.kill()
                worker.launch()
            else:
                attempts.append(message.progress.attempt)
    await worker.wait_ready()
    assert states == [QUEUED, RUNNING, QUEUED, RUNNING, SUCCEEDED]
    assert attempts == sorted(attempts)
    assert generation.attempt_count == 2
    await assert_one_picture(client, stack, generation, tmp_path)


@pytest.mark.parametrize("ending", ["killed", "stopped"])
async def test_the_gateway_restarts(client: Client, stack: Stack, tmp_path: Path, ending: str) -> None:
    (gateway,) = stack.gateways
    story = Story(client.generate(long_spec()))
    await story.until_step(5)
    if ending == "killed":
        gateway.kill()
    else:
        await gateway.stop()
    await gateway.start()
    generation = await story.to_the_end()
    assert story.states == [QUEUED, RUNNING, SUCCEEDED]
    assert generation.attempt_count == 1
    await assert_one_picture(client, stack, generation, tmp_path)


async def test_nats_is_wiped(client: Client, stack: Stack, tmp_path: Path) -> None:
    story = Story(client.generate(long_spec()))
    await story.until_step(5)
    waiting = await client.create(GenerationSpec(prompt="a hill", steps=2))
    await stack.servers.nats.wipe()
    generation = await story.to_the_end()
    assert story.revisions == list(range(1, generation.revision + 1))
    await assert_one_picture(client, stack, generation, tmp_path)
    # What had only a hint, which is gone, is drawn too.
    assert (await Story(client.watch(waiting.id)).to_the_end()).state == SUCCEEDED


async def test_s3_restarts(client: Client, stack: Stack, tmp_path: Path) -> None:
    story = Story(client.generate(GenerationSpec(prompt="a castle", steps=100, seed=7)))
    await story.until_step(5)
    await stack.servers.s3.stop()
    await story.until_step(100)
    await stack.servers.s3.start()
    generation = await story.to_the_end()
    assert generation.attempt_count == 1
    await assert_one_picture(client, stack, generation, tmp_path)


async def test_postgresql_is_down(client: Client, stack: Stack, tmp_path: Path) -> None:
    story = Story(client.generate(long_spec()))
    await story.until_step(5)
    stack.servers.postgres.kill()
    with pytest.raises(Unavailable) as refused:
        await client.create(GenerationSpec(prompt="a hill", steps=2))
    assert refused.value.retry_after_seconds is not None
    await stack.servers.postgres.start()
    generation = await story.to_the_end()
    assert story.revisions == list(range(1, generation.revision + 1))
    await assert_one_picture(client, stack, generation, tmp_path)
    # The same gateway accepts again.
    again = await client.create(GenerationSpec(prompt="a hill", steps=2))
    assert (await Story(client.watch(again.id)).to_the_end()).state == SUCCEEDED


async def test_cancel_stops_the_drawing_after_the_step_in_hand(client: Client, stack: Stack) -> None:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    story = Story(client.generate(long_spec()))
    await story.until_step(5)
    steps: list[int] = []

    async def on_progress(message: object) -> None:
        steps.append(ProgressReport.FromString(message.data).progress.step)  # type: ignore[attr-defined]

    await bus.subscribe(progress_subject(story.generation.id), on_progress)
    cancelled = await client.cancel(story.generation.id)
    drawn_at_cancel = max(steps, default=story.step)
    assert cancelled.state == CANCELLED
    assert (await story.to_the_end()).state == CANCELLED
    # The worker is free for the next one at once, and says nothing more of the cancelled one.
    after = await Story(client.generate(GenerationSpec(prompt="a hill", steps=2))).to_the_end()
    assert after.state == SUCCEEDED
    assert max(steps, default=0) <= drawn_at_cancel + 3
    assert (await client.get(story.generation.id)).state == CANCELLED
    assert objects_of(stack, story.generation.id) == []
    await bus.close()


async def test_the_same_request_id_draws_one_picture(client: Client, stack: Stack, tmp_path: Path) -> None:
    request_id, spec = uuid.uuid4().hex, GenerationSpec(prompt="a castle", steps=20)
    first, second = await asyncio.gather(*(client.create(spec, request_id=request_id) for _ in range(2)))
    assert first.id == second.id
    done = await Story(client.generate(spec, request_id=request_id)).to_the_end()
    assert done.id == first.id
    again = await client.create(spec, request_id=request_id)
    assert (again.id, again.revision, again.attempt_count) == (done.id, done.revision, 1)
    await assert_one_picture(client, stack, again, tmp_path)

"""Watchers that do not read what they are sent: they cost the gateway little, and come to their ends all the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from easel.embedded import Stack
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.task_pb2 import Task
from tests.faults.parts import gateway_beside
from tests.integration.calls import QUEUED, RUNNING, SUCCEEDED, Watcher, create, refusal, until
from tests.integration.scripted_worker import ScriptedWorker
from tests.scraping import scrape

#: Far more than a narrow client takes unread.
PREVIEW = bytes(30_000)
GRACE_SECONDS = 1.0
PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    environment = {"EASEL_WRITE_TIMEOUT_SECONDS": "0.5", "EASEL_LOG_LEVEL": "DEBUG"}
    async with Stack(tmp_path_factory.mktemp("slow"), workers=0, environment=environment) as stack:
        yield stack


@asynccontextmanager
async def narrow_client(target: str) -> AsyncIterator[GenerationServiceStub]:
    """A client that takes a few hundred bytes of a stream before it reads."""
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield GenerationServiceStub(channel)


async def flood(worker: ScriptedWorker, task: Task, *, reader: Watcher) -> None:
    """Report until a watcher that reads has seen a few previews; one that does not is stuck in the first."""
    while len(reader.previews) < 3:
        await worker.report(task, step=len(reader.steps) + 1, preview=PREVIEW)
        await reader.next()


async def watchers_of(url: str) -> float:
    return (await scrape(url)).value("easel_watchers")


async def test_a_watcher_that_never_reads_is_given_up_and_misses_nothing(
    stack: Stack, client: GenerationServiceStub, worker: ScriptedWorker
) -> None:
    generation = await create(client, worker)
    request = messages.WatchGenerationRequest(id=generation.id)
    reader = Watcher(client.WatchGeneration(request))
    async with narrow_client(stack.target) as narrow:
        late = Watcher(narrow.WatchGeneration(request))
        await late.next()
        # From here on, it reads no more.
        await reader.until_state(QUEUED)
        task = await worker.take()
        await flood(worker, task, reader=reader)

        async def only_the_reader_is_left() -> bool:
            return await watchers_of(stack.gateways[0].metrics_url) == 1

        await until(only_the_reader_is_left)
        code, details = await refusal(to_the_break(late))
        assert code == grpc.StatusCode.UNAVAILABLE
        assert details["ErrorInfo"].reason == "ERROR_REASON_SLOW_READER"
        assert details["RetryInfo"].retry_delay.seconds == 1
        await worker.succeed(task)
        rest = Watcher(
            narrow.WatchGeneration(messages.WatchGenerationRequest(id=generation.id, resume_token=late.token))
        )
        await rest.to_the_end()
        assert late.states == [QUEUED, RUNNING]
        assert rest.states in ([RUNNING, SUCCEEDED], [SUCCEEDED])  # it begins with what is so, if that is no news
    assert (await reader.to_the_end()).state == SUCCEEDED


async def to_the_break(watcher: Watcher) -> None:
    while True:
        await watcher.next()


@pytest.mark.parametrize("write_timeout_seconds", [600.0, 0.2], ids=["while it is written to", "after it was given up"])
async def test_a_watcher_that_never_reads_does_not_hold_up_the_shutdown(
    stack: Stack, worker: ScriptedWorker, write_timeout_seconds: float
) -> None:
    settings = {
        "EASEL_WRITE_TIMEOUT_SECONDS": str(write_timeout_seconds),
        "EASEL_DRAIN_GRACE_SECONDS": str(GRACE_SECONDS),
    }
    async with (
        gateway_beside(stack, name=f"gateway-{write_timeout_seconds}", **settings) as gateway,
        grpc.aio.insecure_channel(gateway.target) as channel,
        narrow_client(gateway.target) as narrow,
    ):
        client = GenerationServiceStub(channel)
        generation = await create(client, worker)
        request = messages.WatchGenerationRequest(id=generation.id)
        unread = narrow.WatchGeneration(request)
        reader = Watcher(client.WatchGeneration(request))
        await reader.until_state(QUEUED)
        task = await worker.take()
        await flood(worker, task, reader=reader)
        watched_by = 2 if write_timeout_seconds > PATIENCE_SECONDS else 1

        async def so_many_watch() -> bool:
            return await watchers_of(gateway.metrics_url) == watched_by

        await until(so_many_watch)
        gateway._signal(gateway.stop_signal)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await gateway.wait() == 0
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await to_the_break(Watcher(unread))
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        await worker.succeed(task)
    log = gateway.log.read_text()
    assert "Traceback" not in log
    assert "defect" not in log

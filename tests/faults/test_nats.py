"""NATS loses what it holds, is full, is away, or holds back what it was given."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import nats.errors
import nats.js.errors
import psycopg
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from easel import subjects
from easel.bus import Bus
from easel.embedded import Stack
from easel.embedded.nats import User
from easel.embedded.services import Worker
from easel.subjects import PROGRESS_STREAM, PROJECTION_CONSUMER, RESULTS_STREAM, TASKS_STREAM, task_consumer
from tests.faults.clients import Clients, Endless, ask_once, count_objects, until
from tests.faults.conftest import LONGER_THAN_A_LEASE
from tests.faults.parts import gateway_beside, worker_beside
from tests.faults.proxy import Proxy, proxy_to
from tests.scraping import scrape

#: Several looks of a gateway.
LESS_THAN_A_LEASE = 0.8

FILLER = "FILLER"
STORE_BYTES = 4 * 1024 * 1024
DISK_BYTES = 8 * 1024 * 1024


@pytest.fixture
async def jetstream(stack: Stack) -> AsyncIterator[JetStreamContext]:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("operator"), name="test")
    yield bus.jetstream
    await bus.close()


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    async with proxy_to(stack.servers.nats.port) as proxy:
        yield proxy


def url_through(proxy: Proxy, stack: Stack, user: User) -> str:
    """Say where a service finds NATS, behind the proxy."""
    return f"{stack.servers.nats.url(user).rpartition(':')[0]}:{proxy.port}"


async def state_of(stack: Stack, generation_id: str) -> str:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        query = "SELECT state FROM generations WHERE id = %s"
        row = await (await connection.execute(query, [generation_id])).fetchone()
    return str(row[0]) if row else ""


# What it holds is gone.


@pytest.mark.parametrize(
    ("stream", "consumer"),
    [
        pytest.param(TASKS_STREAM, None, id="hints"),
        pytest.param(RESULTS_STREAM, None, id="results"),
        pytest.param(PROGRESS_STREAM, None, id="progress"),
        pytest.param(TASKS_STREAM, task_consumer("scripted"), id="the_consumer_of_hints"),
        pytest.param(RESULTS_STREAM, PROJECTION_CONSUMER, id="the_consumer_of_results"),
    ],
)
async def test_deleted_under_load(
    clients: Clients, jetstream: JetStreamContext, stream: str, consumer: str | None
) -> None:
    first, *others = await clients.ask_often(16, "step=0.04")
    await clients.until_seen("SUCCEEDED", first)
    if consumer is None:
        await jetstream.delete_stream(stream)
    else:
        await jetstream.delete_consumer(stream, consumer)
    came = await clients.ask_often(4, "step=0.04")
    kept = await clients.assert_kept()
    await until(partial(exists, jetstream, stream, consumer))
    if (stream, consumer) != (RESULTS_STREAM, None):  # what was in it may have to be drawn again
        kept.assert_drawn_once(first, *others, *came)


async def exists(jetstream: JetStreamContext, stream: str, consumer: str | None) -> bool:
    with suppress(nats.js.errors.NotFoundError):
        await jetstream.stream_info(stream)
        if consumer is not None:
            await jetstream.consumer_info(stream, consumer)
        return True
    return False


async def test_results_deleted_that_were_acknowledged_and_are_in_no_record(
    stack: Stack, clients: Clients, jetstream: JetStreamContext, endless: Endless
) -> None:
    """What was drawn is drawn again: nothing but the record is trusted to keep it."""
    generation_id = await clients.ask(endless.script, steps=endless.steps)
    await clients.until_seen("RUNNING", generation_id)
    with paused_gateways(stack):
        await until(lambda: is_waited_for_by_nobody(jetstream))
        endless.end()
        await until(lambda: is_handed_in(jetstream, generation_id))
        await jetstream.delete_stream(RESULTS_STREAM)
    kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == ["LOST", "SUCCEEDED"]


async def test_wiped_under_load(stack: Stack, clients: Clients) -> None:
    first, *_ = await clients.ask_often(12, "step=0.1")
    await clients.until_seen("SUCCEEDED", first)
    await stack.servers.nats.wipe()
    await clients.ask_often(4, "step=0.04")
    await clients.assert_kept()


async def test_away_for_longer_than_a_lease(stack: Stack, clients: Clients, proxy: Proxy, endless: Endless) -> None:
    """Workers draw and finish meanwhile, and when it is back nobody is taken for dead, not even who comes later."""
    url = url_through(proxy, stack, "worker")
    async with worker_beside(stack, model="latecomer", EASEL_NATS_URL=url):
        running = [
            *await clients.ask_often(2, endless.script, steps=endless.steps),
            await clients.ask(endless.script, steps=endless.steps, model="latecomer"),
        ]
        waiting = await clients.ask_often(4, "step=0.04")
        await clients.until_seen("RUNNING", *running)
        proxy.cut()
        stack.servers.nats.kill()
        endless.end()
        try:
            came = await clients.ask_often(2, "step=0.04")
            await asyncio.sleep(LONGER_THAN_A_LEASE)
        finally:
            await stack.servers.nats.start()
        await asyncio.sleep(LESS_THAN_A_LEASE)
        proxy.mend()
        kept = await clients.assert_kept()
    kept.assert_drawn_once(*running, *waiting, *came)


@contextmanager
def paused_gateways(stack: Stack) -> Iterator[None]:
    for gateway in stack.gateways:
        gateway.pause()
    try:
        yield
    finally:
        for gateway in stack.gateways:
            gateway.resume()


async def is_waited_for_by_nobody(jetstream: JetStreamContext) -> bool:
    """Whether gateways that are paused would not even be sent a result: what they asked for has expired."""
    consumer = await jetstream.consumer_info(RESULTS_STREAM, PROJECTION_CONSUMER)
    return not consumer.num_waiting


async def is_handed_in(jetstream: JetStreamContext, generation_id: str) -> bool:
    subject = subjects.result(generation_id)
    with suppress(nats.js.errors.NotFoundError):
        return (await jetstream.get_last_msg(RESULTS_STREAM, subject)) is not None
    return False


# It is full.


async def test_no_room(stack: Stack, clients: Clients, jetstream: JetStreamContext, endless: Endless) -> None:
    """Workers keep what they drew, requests are accepted, and all goes on when there is room again."""
    async with limited(stack):
        running = await clients.ask_often(2, endless.script, steps=endless.steps)
        await clients.until_seen("RUNNING", *running)
        await fill(jetstream)
        endless.end()
        waiting = await clients.ask_often(4, "step=0.04")
        for generation_id in running:
            await until(partial(count_objects, stack, generation_id))
        await asyncio.sleep(LONGER_THAN_A_LEASE)
        # It is in the bucket, nobody could say so, and its worker still has it.
        assert [await state_of(stack, generation_id) for generation_id in running] == ["RUNNING"] * 2
        assert [await state_of(stack, generation_id) for generation_id in waiting] == ["QUEUED"] * 4
        await jetstream.delete_stream(FILLER)
        kept = await clients.assert_kept()
    kept.assert_drawn_once(*running, *waiting)


@asynccontextmanager
async def limited(stack: Stack) -> AsyncIterator[None]:
    """Let NATS have little room."""
    stack.servers.nats.max_file_store_bytes = STORE_BYTES
    await stack.servers.nats.restart()
    try:
        yield
    finally:
        stack.servers.nats.max_file_store_bytes = None
        await stack.servers.nats.restart()


async def fill(jetstream: JetStreamContext) -> None:
    """Take up all the room that there is."""
    await until(lambda: is_added(jetstream, StreamConfig(name=FILLER, subjects=[FILLER])))
    for size_bytes in (64 * 1024, 1024, 1):
        with suppress(nats.js.errors.APIError):
            while True:
                await jetstream.publish(FILLER, bytes(size_bytes))


async def is_added(jetstream: JetStreamContext, stream: StreamConfig) -> bool:
    with suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
        await jetstream.add_stream(stream)
        return True
    return False


async def test_a_full_disk(stack: Stack, clients: Clients, endless: Endless) -> None:
    """What could not be written once takes nothing more until NATS starts again: that is up to who makes room."""
    server = stack.servers.nats
    async with small_disk(stack) as disk:
        running = await clients.ask_often(2, endless.script, steps=endless.steps)
        await clients.until_seen("RUNNING", *running)
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        endless.end()
        waiting = await clients.ask_often(4, "step=0.04")
        for generation_id in running:
            await until(partial(count_objects, stack, generation_id))
        await asyncio.sleep(LONGER_THAN_A_LEASE)
        assert [await state_of(stack, generation_id) for generation_id in running] == ["RUNNING"] * 2
        ballast.unlink()
        await server.restart()
        kept = await clients.assert_kept()
    kept.assert_drawn_once(*running, *waiting)


@asynccontextmanager
async def small_disk(stack: Stack) -> AsyncIterator[Path]:
    """Give NATS an empty disk of its own."""
    server = stack.servers.nats
    await server.stop()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(server.store)]
    mounted = await asyncio.to_thread(subprocess.run, mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        await server.start()
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        await server.start()
        yield server.store
    finally:
        await server.stop()
        await asyncio.to_thread(subprocess.run, ["umount", str(server.store)], check=True)
        await server.start()


# It does not reach everybody.


still_or_over = pytest.mark.parametrize("is_final", [False, True], ids=["while_it_is_drawn_again", "after_the_end"])


@still_or_over
async def test_a_worker_cut_off_for_longer_than_its_lease(
    stack: Stack, clients: Clients, proxy: Proxy, is_final: bool
) -> None:
    """It stores its picture, which nobody hears of; another worker draws the same. The first to be recorded wins."""
    model = f"cut-off-{is_final}"
    async with worker_beside(stack, model=model, EASEL_NATS_URL=url_through(proxy, stack, "worker")) as worker:
        generation_id = await clients.ask("step=0.5", steps=8, model=model)
        await clients.until_seen("RUNNING", generation_id)
        proxy.cut()
        async with worker_beside(stack, model=model, name="worker-near"):
            await until(partial(has_objects, stack, generation_id, 1))
            await until(partial(clients.is_at, generation_id, 2))
            if is_final:
                await clients.until_seen("SUCCEEDED", generation_id)
            proxy.mend()
            await until(partial(has_ended, worker, 1))
            kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == (["LOST", "SUCCEEDED"] if is_final else ["SUCCEEDED", "STOPPED"])


@still_or_over
async def test_a_result_that_arrives_late(
    stack: Stack, clients: Clients, proxy: Proxy, jetstream: JetStreamContext, is_final: bool
) -> None:
    """Its worker was told that it timed out. The first that is recorded wins, whichever that is."""
    model = f"slow-mail-{is_final}"
    async with worker_beside(stack, model=model, EASEL_NATS_URL=url_through(proxy, stack, "worker")):
        generation_id = await clients.ask("step=0.5", steps=8, model=model)
        await clients.until_seen("RUNNING", generation_id)
        proxy.dam()
        async with worker_beside(stack, model=model, name="worker-near"):
            await until(partial(proxy.holds, subjects.result(generation_id)))
            await until(partial(clients.is_at, generation_id, 2))
            if is_final:
                await clients.until_seen("SUCCEEDED", generation_id)
                first = await clients.assert_kept()
            proxy.mend()
            await until(partial(is_taken, jetstream, generation_id, 2 if is_final else 1))
            kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == (["LOST", "SUCCEEDED"] if is_final else ["SUCCEEDED", "STOPPED"])
    if is_final:
        assert kept.evidence.generations == first.evidence.generations


async def test_a_hint_that_arrives_late(stack: Stack, clients: Clients, proxy: Proxy) -> None:
    """Its gateway was told that it timed out, and another one has published it since."""
    async with (
        worker_beside(stack, model="slow-hint") as worker,
        # It holds a worker for live as long as that, though nobody can renew.
        gateway_beside(
            stack, name="far", EASEL_NATS_URL=url_through(proxy, stack, "gateway"), EASEL_LEASE_SECONDS="60"
        ) as far,
    ):
        wish = clients.wish(model="slow-hint")
        with paused_gateways(stack):
            proxy.dam()
            generation_id = await ask_once(far.target, wish)
            await until(partial(proxy.holds, subjects.task("slow-hint", generation_id)))
        assert await clients.accept(wish) == generation_id
        await clients.assert_kept()
        refused = await count_refused(worker)
        proxy.mend()
        await until(partial(has_refused, worker, refused + 1))
        kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)


async def has_objects(stack: Stack, generation_id: str, count: int) -> bool:
    return await count_objects(stack, generation_id) >= count


async def has_ended(worker: Worker, count: int) -> bool:
    """Whether a worker has done with so many attempts, in whatever way."""
    return (await scrape(worker.metrics_url)).value("easel_attempts_total") >= count


async def is_taken(jetstream: JetStreamContext, generation_id: str, count: int) -> bool:
    """Whether so many results of a generation were handed in, and all results are projected."""
    subject = subjects.result(generation_id)
    stream = await jetstream.stream_info(RESULTS_STREAM, subjects_filter=subject)
    consumer = await jetstream.consumer_info(RESULTS_STREAM, PROJECTION_CONSUMER)
    came = (stream.state.subjects or {}).get(subject, 0)
    return came >= count and consumer.num_pending == 0 and consumer.num_ack_pending == 0


async def count_refused(worker: Worker) -> float:
    """Count the hints of which a worker heard that they are of no use any more."""
    return (await scrape(worker.metrics_url)).value("easel_worker_claims_total", answer="GONE")


async def has_refused(worker: Worker, count: float) -> bool:
    return await count_refused(worker) >= count

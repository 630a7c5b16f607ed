"""Every crash point, one test each: the process dies exactly there, is started again, and the promise is kept."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import psycopg
import pytest

from easel.crash import CrashPoint
from easel.embedded import Stack
from easel.embedded.services import Service, Worker
from easel.v1.generation_messages_pb2 import BatchCreateGenerationsRequest, CreateGenerationRequest
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.faults.clients import Clients
from tests.faults.parts import worker_beside
from tests.faults.proxy import proxy_to

DEATH_SECONDS = 60.0
#: A picture of 0.2 s: long enough that nothing is over before it began.
SCRIPT = "step=0.05"


@asynccontextmanager
async def dying(stack: Stack, process: Service, point: CrashPoint) -> AsyncIterator[None]:
    """Have a process run armed and alone of its kind; at the end wait for its death, and start all again."""
    kind: Sequence[Service] = stack.workers if isinstance(process, Worker) else stack.gateways
    environment = process._environment
    try:
        await asyncio.gather(*(each.stop() for each in kind))
        process._environment = {**environment, "EASEL_TESTING": "true", "EASEL_CRASH_AT": point}
        await process.start()
        yield
        async with asyncio.timeout(DEATH_SECONDS):
            assert await process.wait() == -signal.SIGKILL
    finally:
        process._environment = environment
        for each in kind:
            each.kill()
        await asyncio.gather(*(each.start() for each in kind))


async def count_requests(stack: Stack, *request_ids: str) -> int:
    """Count the generations that these made."""
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        counted = await connection.execute(
            "SELECT count(*) FROM generations WHERE request_id = ANY(%s)", [list(request_ids)]
        )
        row = await counted.fetchone()
    return int(row[0]) if row else 0


async def test_gateway_between_insert_and_commit(stack: Stack, clients: Clients) -> None:
    gateway, _ = stack.gateways
    wishes = [clients.wish(SCRIPT) for _ in range(3)]
    batch = BatchCreateGenerationsRequest(
        requests=[CreateGenerationRequest(request_id=wish.request_id, spec=wish.spec) for wish in wishes]
    )
    async with dying(stack, gateway, CrashPoint.BEFORE_COMMIT):
        # The plain stub, since the client would ask again.
        async with grpc.aio.insecure_channel(gateway.target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as broken:
                await GenerationServiceStub(channel).BatchCreateGenerations(batch)
        assert broken.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await count_requests(stack, *(wish.request_id for wish in wishes)) == 0
    # Nothing was accepted; asked again, all is, once.
    ids = [await clients.accept(wish) for wish in wishes]
    (await clients.assert_kept()).assert_drawn_once(*ids)


async def test_gateway_between_commit_and_reply(stack: Stack, clients: Clients) -> None:
    gateway, _ = stack.gateways
    wish = clients.wish(SCRIPT)
    async with dying(stack, gateway, CrashPoint.AFTER_COMMIT):
        asking = asyncio.create_task(clients.accept(wish))
        await gateway.wait()
        # Accepted, though nobody was told; the client asks on and is given that one.
        assert await count_requests(stack, wish.request_id) == 1
    generation_id = await asking
    (await clients.assert_kept()).assert_drawn_once(generation_id)


@pytest.mark.parametrize(
    "point",
    [
        # The hint is marked and not there: the sweep finds that.
        CrashPoint.AFTER_MARK,
        CrashPoint.AFTER_PUBLISH,
        # The worker asks under the same claim id, and is given the same attempt.
        CrashPoint.AFTER_CLAIM,
        # The result comes again, and changes nothing.
        CrashPoint.AFTER_PROJECTION,
    ],
)
async def test_gateway(stack: Stack, clients: Clients, point: CrashPoint) -> None:
    gateway, _ = stack.gateways
    async with dying(stack, gateway, point):
        generation_id = await clients.ask(SCRIPT)
    (await clients.assert_kept()).assert_drawn_once(generation_id)


@pytest.mark.parametrize("point", [CrashPoint.AFTER_GRANT, CrashPoint.MID_DRAWING, CrashPoint.AFTER_PUT])
async def test_worker_before_its_result_is_out(stack: Stack, clients: Clients, point: CrashPoint) -> None:
    worker, _ = stack.workers
    async with dying(stack, worker, point):
        generation_id = await clients.ask(SCRIPT, image_count=2)
    # The lease runs out, and another attempt is made. What the first one stored is put down for deletion.
    assert (await clients.assert_kept()).outcomes(generation_id) == ["LOST", "SUCCEEDED"]


async def test_worker_after_the_acknowledgement_of_its_result(stack: Stack, clients: Clients) -> None:
    worker, _ = stack.workers
    async with dying(stack, worker, CrashPoint.AFTER_RESULT):
        generation_id = await clients.ask(SCRIPT)
    (await clients.assert_kept()).assert_drawn_once(generation_id)


async def test_worker_before_the_acknowledgement_of_its_result(stack: Stack, clients: Clients) -> None:
    nats = stack.servers.nats
    async with proxy_to(nats.port) as proxy:
        url = nats.url("worker").replace(f":{nats.port}", f":{proxy.port}")
        async with worker_beside(stack, model="unheard", EASEL_NATS_URL=url) as worker:
            generation_id = await clients.ask("step=0.5", model="unheard")
            await clients.until_seen("RUNNING", generation_id)
            # From here on it is heard, and hears nothing: neither the answers to its renewals nor that its result came.
            proxy.dam_answers()
            await clients.until_seen("SUCCEEDED", generation_id)
            assert worker.is_running
            worker.kill()
    (await clients.assert_kept()).assert_drawn_once(generation_id)

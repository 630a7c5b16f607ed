"""PostgreSQL dies in the middle of a commit, sleeps, and has no connection to spare."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import grpc
import grpc.aio
import psutil
import psycopg
import pytest
from google.protobuf.message import Message
from psycopg import sql

from easel import subjects
from easel.bus import Bus
from easel.client import Client, Unavailable
from easel.embedded import Stack
from easel.embedded.services import Gateway
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import GenerationSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse
from tests.chaos.wishes import Wish
from tests.faults.clients import ANSWER_SECONDS, Clients, Endless, ask_once, until
from tests.faults.conftest import LONGER_THAN_A_LEASE
from tests.faults.parts import gateway_beside

SLEEP_SECONDS = 30.0

#: A commit is held back by one of two functions: before anything of it is written, or when all of it is on the disk.
BEFORE_THE_DISK = "PERFORM pg_advisory_xact_lock(1)"
AFTER_THE_DISK = "PERFORM set_config('synchronous_commit', 'on', true)"
HELD = {
    BEFORE_THE_DISK: "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'",
    AFTER_THE_DISK: "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
}
both_sides = pytest.mark.parametrize(
    "point", [pytest.param(BEFORE_THE_DISK, id="before_the_disk"), pytest.param(AFTER_THE_DISK, id="after_the_disk")]
)


async def connect(stack: Stack) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(stack.servers.postgres.url, autocommit=True)


async def run(stack: Stack, *statements: str | sql.Composed) -> None:
    async with await connect(stack) as connection:
        for statement in statements:
            await connection.execute(statement)


async def ask_for_number(connection: psycopg.AsyncConnection[Any], query: str) -> int:
    row = await (await connection.execute(query)).fetchone()
    return int(row[0]) if row else 0


@asynccontextmanager
async def killed_in_mid_commit(
    stack: Stack, request_id: str, *, state: str, point: str
) -> AsyncIterator["asyncio.Task[datetime]"]:
    """Kill the server while it commits that a request came to a state, and start it again.

    Before the disk the commit waits for a lock that we hold. After it, it waits for a standby that there is not: its
    record is flushed, and nobody was told. Of all commits only this one does so.

    Yields:
        A task that is done when all that has happened, with the time at which the server died, on its own clock.
    """
    where = sql.SQL("NEW.request_id = {} AND NEW.state = {}").format(request_id, state)
    await run(
        stack,
        "ALTER SYSTEM SET synchronous_commit = 'local'",
        "SELECT pg_reload_conf()",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
        f"CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {point}; RETURN NULL; END$$",
        # Deferred triggers are the first thing that a commit does.
        sql.SQL(
            "CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT OR UPDATE ON generations DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN ({}) EXECUTE FUNCTION hold_commit()"
        ).format(where),
    )
    holder = await connect(stack)
    await holder.execute("SELECT pg_advisory_lock(1)")
    killing = asyncio.create_task(_kill_in_mid_commit(stack, holder, point))
    try:
        yield killing
        await killing
    finally:
        killing.cancel()
        await asyncio.wait([killing])
        if not stack.servers.postgres.is_running:
            await stack.servers.postgres.start()
        await run(
            stack,
            "DROP FUNCTION hold_commit CASCADE",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "ALTER SYSTEM RESET synchronous_commit",
            "SELECT pg_reload_conf()",
        )


async def _kill_in_mid_commit(stack: Stack, holder: psycopg.AsyncConnection[Any], point: str) -> datetime:
    async with holder:
        await until(lambda: ask_for_number(holder, HELD[point]))
        row = await (await holder.execute("SELECT clock_timestamp()")).fetchone()
        stack.servers.postgres.kill()
    await stack.servers.postgres.start()
    assert row
    died: datetime = row[0]
    return died


async def read_times(stack: Stack, request_id: str) -> Mapping[str, Any]:
    """Read when a request was accepted and when it ended: the times at which those transactions began."""
    async with await connect(stack) as connection:
        query = "SELECT create_time, end_time FROM generations WHERE request_id = %s"
        row = await (await connection.execute(query, [request_id])).fetchone()
    assert row
    return dict(zip(("create_time", "end_time"), row, strict=True))


async def assert_refused_in_time(target: str, wish: Wish) -> None:
    """It is UNAVAILABLE, with a hint when to come again, and not after the caller's deadline only."""
    with pytest.raises(Unavailable) as refused:
        await ask_once(target, wish)
    assert refused.value.retry_after_seconds


@asynccontextmanager
async def locked(stack: Stack, statement: str | sql.Composed) -> AsyncIterator[None]:
    """Hold what a statement locks."""
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        await connection.execute(statement)
        yield


@both_sides
async def test_killed_in_mid_commit_of_an_accept(stack: Stack, clients: Clients, point: str) -> None:
    wish = clients.wish("step=0.02")
    async with killed_in_mid_commit(stack, wish.request_id, state="QUEUED", point=point) as killing:
        with pytest.raises(Unavailable):
            await ask_once(stack.target, wish)
        died = await killing
        # With the same request_id: what had been accepted is found, what had not is accepted now. One, either way.
        generation_id = await clients.accept(wish)
    kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)
    created = (await read_times(stack, wish.request_id))["create_time"]
    assert (created < died) == (point == AFTER_THE_DISK)


@both_sides
async def test_killed_in_mid_commit_of_a_result(stack: Stack, clients: Clients, point: str) -> None:
    wish = clients.wish("step=0.02")
    async with killed_in_mid_commit(stack, wish.request_id, state="SUCCEEDED", point=point) as killing:
        generation_id = await clients.accept(wish)
        died = await killing
        kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)
    ended = (await read_times(stack, wish.request_id))["end_time"]
    assert (ended < died) == (point == AFTER_THE_DISK)


@pytest.mark.timeout(240)
async def test_asleep_for_half_a_minute_under_load(stack: Stack, clients: Clients, endless: Endless) -> None:
    running = await clients.ask_often(2, endless.script, steps=endless.steps)
    waiting = await clients.ask_often(6, "step=0.02")
    await clients.until_seen("RUNNING", *running)
    stack.servers.postgres.pause()
    endless.end()
    try:
        waking = asyncio.create_task(asyncio.sleep(SLEEP_SECONDS))
        coming = [asyncio.create_task(clients.ask("step=0.02")) for _ in range(6)]
        refused = clients.wish("step=0.02")
        await assert_refused_in_time(stack.target, refused)
        assert await answers(stack.target, running[0]) == dict.fromkeys(CALLS, grpc.StatusCode.UNAVAILABLE)
        await waking
        assert not any(one.done() for one in coming)
    finally:
        stack.servers.postgres.resume()
    came = [await clients.accept(refused), *await asyncio.gather(*coming)]
    kept = await clients.assert_kept()
    # Nothing was judged while nobody could renew: also what was drawn during the sleep was not drawn again.
    kept.assert_drawn_once(*running, *waiting, *came)


UNWANTED = messages.CreateGenerationRequest(spec=GenerationSpec(prompt="nobody waits for this", model="scripted"))
#: Whatever needs the record, about a generation that runs; but no cancel, which might be carried out yet.
CALLS: Mapping[str, Callable[[str], Message]] = {
    "BatchCreateGenerations": lambda _: messages.BatchCreateGenerationsRequest(requests=[UNWANTED]),
    "Generate": lambda _: messages.GenerateRequest(spec=UNWANTED.spec),
    "GetGeneration": lambda id_: messages.GetGenerationRequest(id=id_),
    "ListGenerations": lambda _: messages.ListGenerationsRequest(),
    "WatchGeneration": lambda id_: messages.WatchGenerationRequest(id=id_),
    "DeleteGeneration": lambda id_: messages.DeleteGenerationRequest(id=id_),
    "RetryGeneration": lambda id_: messages.RetryGenerationRequest(id=id_),
    "SignImageUrls": lambda id_: messages.SignImageUrlsRequest(id=id_),
    "ListAttempts": lambda id_: messages.ListAttemptsRequest(id=id_),
}


async def answers(target: str, generation_id: str) -> Mapping[str, grpc.StatusCode]:
    """Make all calls at once, and say how each ends."""

    async def end_of(call: Any) -> grpc.StatusCode:
        with suppress(grpc.aio.AioRpcError):
            await call.read() if hasattr(call, "read") else await call
        code: grpc.StatusCode = await call.code()
        return code

    async with grpc.aio.insecure_channel(target) as channel:
        stub = GenerationServiceStub(channel)
        calls = [getattr(stub, name)(make(generation_id), timeout=ANSWER_SECONDS) for name, make in CALLS.items()]
        return dict(zip(CALLS, await asyncio.gather(*map(end_of, calls)), strict=True))


async def test_every_connection_is_in_use(stack: Stack, clients: Clients, endless: Endless) -> None:
    """Somebody locks the whole record: every statement of both gateways waits, until there is no connection left."""
    running = await clients.ask_often(2, endless.script, steps=endless.steps)
    waiting = await clients.ask_often(4, "step=0.02")
    await clients.until_seen("RUNNING", *running)
    wishes = [clients.wish("step=0.02") for _ in range(40)]
    async with locked(stack, "LOCK TABLE generations"):
        endless.end()
        released = asyncio.create_task(asyncio.sleep(LONGER_THAN_A_LEASE))
        await asyncio.gather(
            *(assert_refused_in_time(stack.gateways[number % 2].target, wish) for number, wish in enumerate(wishes))
        )
        await released
    came = await asyncio.gather(*(clients.accept(wish) for wish in wishes))
    kept = await clients.assert_kept()
    kept.assert_drawn_once(*running, *waiting, *came)


async def test_all_connections_of_a_gateway_hang(stack: Stack, clients: Clients) -> None:
    """What it refuses the others accept; and it gets itself others."""
    running = await clients.ask_often(2, "step=0.1", steps=10)
    wish = clients.wish("step=0.02")
    poverty = {
        "EASEL_DATABASE_POOL_SIZE": "1",
        "EASEL_DATABASE_WORK_POOL_SIZE": "1",
        "EASEL_DATABASE_TIMEOUT_SECONDS": "2",
    }
    async with gateway_beside(stack, name="poor", **poverty) as poor, frozen(stack, await backends_of(stack, poor)):
        await assert_refused_in_time(poor.target, wish)
        accepted = await clients.accept(wish)
        await until(lambda: is_accepted(poor.target, wish))
    kept = await clients.assert_kept()
    assert {row["state"] for row in kept.evidence.generations if row["id"] in (*running, accepted)} == {"SUCCEEDED"}


async def test_calls_take_up_every_connection(stack: Stack, client: Client, clients: Clients) -> None:
    """What workers ask goes over connections of its own: no lease runs out meanwhile."""
    async for event in client.generate(GenerationSpec(prompt="gone soon", model="scripted")):
        victim = event.generation.id
    poverty = {"EASEL_DATABASE_POOL_SIZE": "1", "EASEL_DATABASE_TIMEOUT_SECONDS": "2"}
    async with gateway_beside(stack, name="poor", **poverty) as poor, Client(poor.target) as caller:
        running = await clients.ask_often(2, "step=0.3", steps=20)
        wishes = [clients.wish("step=0.02") for _ in range(4)]
        lock = sql.SQL("SELECT FROM generations WHERE id = {} FOR UPDATE").format(victim)
        async with locked(stack, lock), flooded(caller, victim):
            # Each in good time, whether accepted or refused.
            asking = [asyncio.create_task(is_accepted(poor.target, wish)) for wish in wishes]
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGER_THAN_A_LEASE):
                    await assert_that_workers_are_answered(stack)
            await asyncio.gather(*asking)
        came = [await clients.accept(wish) for wish in wishes]
    kept = await clients.assert_kept()
    kept.assert_drawn_once(*running, *came)


async def assert_that_workers_are_answered(stack: Stack) -> None:
    """Say good-bye on behalf of a worker that there is not, again and again: some gateway looks into the record."""
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    try:
        while True:
            await bus.request(subjects.RELEASE, ReleaseRequest(worker_id="nobody", leaving=True), ReleaseResponse)
            await asyncio.sleep(0.02)
    finally:
        await bus.close()


@asynccontextmanager
async def flooded(caller: Client, generation_id: str) -> AsyncIterator[None]:
    """Have many calls wait for what cannot be had."""

    async def keep_deleting() -> None:
        while True:
            with suppress(Unavailable):
                await caller.delete(generation_id)

    calls = [asyncio.create_task(keep_deleting()) for _ in range(8)]
    try:
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def backends_of(stack: Stack, gateway: Gateway) -> list[int]:
    """Name the processes of the server that serve a gateway's connections: one for calls, one for its own work."""

    async def both() -> list[int]:
        ports = {
            connection.laddr.port
            for connection in psutil.Process(gateway.pid).net_connections("tcp4")
            if connection.raddr and connection.raddr.port == stack.servers.postgres.port
        }
        query = "SELECT pid FROM pg_stat_activity WHERE client_port = ANY(%s)"
        async with await connect(stack) as connection:
            backends = [pid async for (pid,) in await connection.execute(query, [list(ports)])]
        return backends if len(backends) == 2 else []

    return await until(both)


@asynccontextmanager
async def frozen(stack: Stack, backends: Sequence[int]) -> AsyncIterator[None]:
    """Freeze processes of the server, each while it does nothing, so that it holds no lock."""
    try:
        async with await connect(stack) as connection:
            for backend in backends:
                await freeze(connection, backend)
        yield
    finally:
        for backend in backends:
            with suppress(ProcessLookupError):
                os.kill(backend, signal.SIGCONT)


async def freeze(connection: psycopg.AsyncConnection[Any], backend: int) -> None:
    idle = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND pid = {backend}"
    while True:
        os.kill(backend, signal.SIGSTOP)
        if await ask_for_number(connection, idle):
            return
        os.kill(backend, signal.SIGCONT)


async def is_accepted(target: str, wish: Wish) -> bool:
    try:
        await ask_once(target, wish)
    except Unavailable:
        return False
    return True

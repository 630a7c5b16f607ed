"""Workers that stop, come back late, leave, break, or have the wrong time; and gateways that were away meanwhile."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import libfaketime
import psutil
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nats.aio.msg import Msg

from easel import subjects
from easel.bus import Bus
from easel.client import Client, is_final
from easel.embedded import Stack
from easel.embedded.services import Worker
from easel.subjects import RESULTS_STREAM
from easel.v1.generation_messages_pb2 import WatchGenerationRequest, WatchGenerationResponse
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.renew_pb2 import RenewRequest
from gateway.projection import CONCURRENCY
from tests.faults.clients import PATIENCE_SECONDS, Clients, Endless, count_objects, until
from tests.faults.conftest import LONGER_THAN_A_LEASE
from tests.faults.parts import worker_beside

#: A drawing without an end, until the worker's own file says that it shall be quick.
ENDLESS = "step=0.05 until=$HURRY"
ENDLESS_STEPS = 1000


class Pair:
    """Two workers of a model of their own: the second is started later, so that the first one gets the work."""

    def __init__(self, stack: Stack, folder: Path, *, model: str) -> None:
        self._stack = stack
        self._folder = folder
        self._running = AsyncExitStack()
        self.model = model

    async def start(self, name: str, **settings: str) -> Worker:
        """Run one more of them, which hurries when `hurry` says so."""
        beside = worker_beside(
            self._stack, model=self.model, name=f"{self.model}-{name}", HURRY=str(self._folder / name), **settings
        )
        return await self._running.enter_async_context(beside)

    def hurry(self, name: str) -> None:
        (self._folder / name).touch()

    def linger(self, name: str) -> None:
        (self._folder / name).unlink()

    async def close(self) -> None:
        await self._running.aclose()


_count = itertools.count()


@pytest.fixture
async def pair(stack: Stack, tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(stack, tmp_path, model=f"pair-{next(_count)}")
    yield pair
    await pair.close()


async def has_logged(worker: Worker, *words: str) -> bool:
    """Whether one line of a log has all these words."""
    lines = (await asyncio.to_thread(worker.log.read_text)).splitlines()
    return any(all(word in line for word in words) for line in lines)


async def rows(stack: Stack, query: str, *parameters: object) -> Sequence[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def losses(stack: Stack, *generation_ids: str) -> dict[str, int]:
    """Read how many lost attempts each of these was made to pay for."""
    found = await rows(stack, "SELECT id::text, lost_attempts FROM generations WHERE id = ANY(%s)", [*generation_ids])
    return {str(generation_id): int(str(lost)) for generation_id, lost in found}


async def objects_to_be_removed(stack: Stack, generation_id: str) -> Sequence[int]:
    """List the attempts whose objects were put down for deletion."""
    query = """
        SELECT number FROM attempts JOIN object_deletions USING (object_prefix) WHERE generation_id = %s ORDER BY number
    """
    return [int(str(number)) for (number,) in await rows(stack, query, generation_id)]


# A worker that stopped past its lease, and comes back.


async def stale(pair: Pair, clients: Clients) -> tuple[Worker, str]:
    """Have a worker hang with its picture stored, and nobody told, until it is taken for dead."""
    first = await pair.start("first", STOP_AT="after_put")
    pair.hurry("first")
    generation_id = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await until(partial(is_frozen, first))
    await clients.until_seen("QUEUED", generation_id)
    return first, generation_id


async def test_a_stale_worker_that_finishes_after_the_end_changes_nothing(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    first, generation_id = await stale(pair, clients)
    pair.hurry("second")
    await pair.start("second")
    await clients.until_seen("SUCCEEDED", generation_id)
    before = await clients.assert_kept()

    first.resume()
    await until(partial(are_projected, stack, generation_id, 2))

    kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == ["LOST", "SUCCEEDED"]
    assert kept.evidence.generations == before.evidence.generations
    assert await count_objects(stack, generation_id) == 2
    assert await objects_to_be_removed(stack, generation_id) == [1]


async def test_a_stale_worker_that_finishes_before_anybody_else_began_wins(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    first, generation_id = await stale(pair, clients)
    first.resume()
    kept = await clients.assert_kept()
    # It may be told to draw it once more before its picture is known of.
    winner, *others = kept.outcomes(generation_id)
    assert winner == "SUCCEEDED"
    assert set(others) <= {"STOPPED"}
    assert await objects_to_be_removed(stack, generation_id) == [2 + index for index in range(len(others))]


async def test_a_stale_worker_that_finishes_first_wins_and_its_successor_stops(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    first, generation_id = await stale(pair, clients)
    second = await pair.start("second")
    await until(partial(clients.is_at, generation_id, 2))
    first.resume()
    await clients.until_seen("SUCCEEDED", generation_id)
    await until(partial(has_logged, second, "dropped: cancelled", generation_id))
    # It is free again.
    await first.stop()
    pair.hurry("second")
    another = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)

    kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == ["SUCCEEDED", "STOPPED"]
    kept.assert_drawn_once(another)
    assert await count_objects(stack, generation_id) == 1
    assert await objects_to_be_removed(stack, generation_id) == [2]


async def test_a_stale_worker_that_renews_after_it_was_judged_drops_what_it_draws(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    first = await pair.start("first")
    generation_id = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", generation_id)
    first.pause()
    await clients.until_seen("QUEUED", generation_id)
    await pair.start("second")
    await until(partial(clients.is_at, generation_id, 2))
    first.resume()
    await until(partial(has_logged, first, "dropped: no longer ours", generation_id, "attempt=1"))
    pair.hurry("second")
    kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == ["LOST", "SUCCEEDED"]
    assert not await has_logged(first, "delivered", generation_id)
    assert await count_objects(stack, generation_id) == 1


async def test_a_stale_worker_that_renews_before_anybody_could_judge_it_goes_on(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    first = await pair.start("first")
    generation_id = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", generation_id)
    for gateway in stack.gateways:
        gateway.kill()
    first.pause()
    await asyncio.sleep(LONGER_THAN_A_LEASE)
    first.resume()
    for gateway in stack.gateways:
        await gateway.start()
    # Time for every judgement that could be wrong.
    await asyncio.sleep(LONGER_THAN_A_LEASE)
    pair.hurry("first")
    (await clients.assert_kept()).assert_drawn_once(generation_id)


# Nobody there to ask.


@pytest.mark.parametrize("ending", ["killed", "stopped"])
async def test_no_gateway_for_longer_than_a_lease_while_workers_finish(
    stack: Stack, clients: Clients, pair: Pair, ending: str, tmp_path: Path
) -> None:
    await pair.start("first", EASEL_SLOTS=str(2 * CONCURRENCY))
    alone = tmp_path / "alone"
    # However long it takes until all of them are drawn.
    ids = await clients.ask_often(2 * CONCURRENCY, f"step=0.1 until={alone}", model=pair.model, steps=300)
    await clients.until_seen("RUNNING", *ids)
    if ending == "stopped":
        await asyncio.gather(*(gateway.stop() for gateway in stack.gateways))
    for gateway in stack.gateways:
        gateway.kill()
    alone.touch()
    waited = asyncio.create_task(asyncio.sleep(LONGER_THAN_A_LEASE))
    await until(partial(are_handed_in, stack, ids))
    await waited
    # The first results take long to be recorded, and the others lie behind them when leases could be judged.
    async with held_up(stack, *(await in_order_of_results(stack, ids))[:CONCURRENCY]):
        for gateway in stack.gateways:
            await gateway.start()
        await asyncio.sleep(LONGER_THAN_A_LEASE)
    kept = await clients.assert_kept()
    kept.assert_drawn_once(*ids)
    assert set((await losses(stack, *ids)).values()) == {0}


async def test_a_renewal_that_nobody_answers_is_repeated_before_the_lease_runs_out(
    stack: Stack, clients: Clients, pair: Pair
) -> None:
    """As it is when a gateway is killed, or hangs, with the renewal in hand."""
    first = await pair.start("first")
    generation_id = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", generation_id)
    async with bus_of(stack) as bus:
        await swallow_a_renewal(bus, generation_id)
    await until(partial(has_logged, first, "no gateway answers"))
    await until(partial(has_logged, first, "a gateway answers again"))
    # Time for every judgement that could be wrong.
    await asyncio.sleep(LONGER_THAN_A_LEASE)
    pair.hurry("first")
    (await clients.assert_kept()).assert_drawn_once(generation_id)


async def swallow_a_renewal(bus: Bus, generation_id: str) -> None:
    """Be one of the gateways until a renewal of this generation has come, and answer nothing."""
    swallowed = asyncio.Event()

    async def on_message(message: Msg) -> None:
        if generation_id in [ref.generation_id for ref in RenewRequest.FromString(message.data).attempts]:
            swallowed.set()

    await bus.subscribe(subjects.RENEW, on_message, queue=subjects.GATEWAY_QUEUE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await swallowed.wait()


@asynccontextmanager
async def held_up(stack: Stack, *generation_ids: str) -> AsyncIterator[None]:
    """Have every change of these wait."""
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        await connection.execute("SELECT FROM generations WHERE id = ANY(%s) FOR UPDATE", [[*generation_ids]])
        yield


async def in_order_of_results(stack: Stack, generation_ids: Sequence[str]) -> Sequence[str]:
    async with bus_of(stack) as bus:
        found = {id_: await bus.jetstream.get_last_msg(RESULTS_STREAM, subjects.result(id_)) for id_ in generation_ids}
    return sorted(generation_ids, key=lambda id_: found[id_].seq or 0)


async def are_handed_in(stack: Stack, generation_ids: Sequence[str]) -> bool:
    """Whether results of all of these are in the stream."""
    async with bus_of(stack) as bus:
        return all([await count_results(bus, generation_id) for generation_id in generation_ids])


async def are_projected(stack: Stack, generation_id: str, count: int) -> bool:
    """Whether so many results of a generation were handed in, and taken note of with all others."""
    async with bus_of(stack) as bus:
        consumer = await bus.jetstream.consumer_info(RESULTS_STREAM, subjects.PROJECTION_CONSUMER)
        all_taken = not consumer.num_pending and not consumer.num_ack_pending
        return all_taken and await count_results(bus, generation_id) == count


async def count_results(bus: Bus, generation_id: str) -> int:
    subject = subjects.result(generation_id)
    info = await bus.jetstream.stream_info(RESULTS_STREAM, subjects_filter=subject)
    return int((info.state.subjects or {}).get(subject, 0))


@asynccontextmanager
async def bus_of(stack: Stack) -> AsyncIterator[Bus]:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("operator"), name="test")
    try:
        yield bus
    finally:
        await bus.close()


# Told to end.


async def test_a_worker_that_is_told_to_end_finishes_what_it_can_and_hands_back_the_rest(
    stack: Stack, clients: Clients, pair: Pair, tmp_path: Path
) -> None:
    first = await pair.start("first", EASEL_SLOTS="2", EASEL_DRAIN_GRACE_SECONDS="5", LAST=str(tmp_path / "never"))
    drawn = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", drawn)
    # Of another size, so that its slow steps are none of the first one's.
    waiting = await clients.ask("step=0.05 until=$LAST", steps=ENDLESS_STEPS // 2, width=128, model=pair.model)
    await clients.until_seen("RUNNING", waiting)
    pair.hurry("second")
    await pair.start("second", LAST=str(tmp_path / "second"))

    stopping = asyncio.create_task(first.stop())
    await until(partial(has_logged, first, "finishing what is held"))
    pair.hurry("first")
    await stopping
    assert first.status == 0

    kept = await clients.assert_kept()
    kept.assert_drawn_once(drawn)
    assert kept.outcomes(waiting) == ["RELEASED", "SUCCEEDED"]
    assert await losses(stack, drawn, waiting) == {drawn: 0, waiting: 0}


async def test_a_gateway_that_is_told_to_end_says_so_to_its_watchers_and_loses_nothing(
    stack: Stack, clients: Clients, endless: Endless
) -> None:
    gateway, other = stack.gateways
    generation_id = await clients.ask(endless.script, steps=endless.steps)
    await clients.until_seen("RUNNING", generation_id)
    seen: list[WatchGenerationResponse] = []
    watching = asyncio.create_task(watch(gateway.target, WatchGenerationRequest(id=generation_id), seen))
    await until(partial(has_any, seen))
    await gateway.stop()
    try:
        assert gateway.status == 0
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watching
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert retry_seconds(ended.value) > 0
        # The other one goes on from there, and what ran runs on.
        resumed = WatchGenerationRequest(id=generation_id, resume_token=seen[-1].resume_token)
        endless.end()
        await watch(other.target, resumed, seen)
        assert is_final(seen[-1].generation)
    finally:
        await gateway.start()
    (await clients.assert_kept()).assert_drawn_once(generation_id)


async def watch(target: str, request: WatchGenerationRequest, seen: list[WatchGenerationResponse]) -> None:
    """Watch by the plain stub, since the client would go on at another gateway by itself."""
    async with grpc.aio.insecure_channel(target) as channel:
        async for message in GenerationServiceStub(channel).WatchGeneration(request):
            seen.append(message)  # noqa: PERF401  # what came before it broke is wanted


async def has_any(seen: Sequence[object]) -> bool:
    return bool(seen)


def retry_seconds(error: grpc.aio.AioRpcError) -> float:
    """Read after how long a refused call may be tried again."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # its stubs know sync calls only
    assert status is not None
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    raise AssertionError("it does not say when to try again")


# The wrong time.


@pytest.mark.parametrize("minutes_off", [10, -10], ids=["fast", "slow"])
async def test_nothing_depends_on_the_clock_of_a_worker(
    client: Client, clients: Clients, pair: Pair, tmp_path: Path, minutes_off: int
) -> None:
    _, preloaded = libfaketime.get_reload_information()
    # Without the times of files, by which Python tells what it has compiled.
    worker = await pair.start("first", **preloaded, FAKETIME=f"{60 * minutes_off:+d}s", NO_FAKE_STAT="1")
    assert abs(await clock_error_minutes(worker) - minutes_off) < 2

    # Longer than a lease, with previews and two pictures.
    generation_id = await clients.ask("step=0.3", steps=15, image_count=2, model=pair.model)
    (await clients.assert_kept()).assert_drawn_once(generation_id)
    generation = await client.get(generation_id)
    assert generation.create_time.ToDatetime() <= generation.start_time.ToDatetime() <= generation.end_time.ToDatetime()
    for image in generation.images:
        await client.download(generation, tmp_path / f"{image.index}.png", index=image.index)
    # It stops what is cancelled, too.
    cancelled = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", cancelled)
    await client.cancel(cancelled)
    await until(partial(has_logged, worker, "dropped: cancelled", cancelled))


async def clock_error_minutes(worker: Worker) -> float:
    """Read off its log how wrong the clock of a worker is that was started just now."""
    last = (await asyncio.to_thread(worker.log.read_text)).splitlines()[-1]
    logged = datetime.fromisoformat(" ".join(last.split()[:2])).astimezone()
    return (logged - datetime.now(tz=UTC)).total_seconds() / 60


# A broken device.


async def test_a_worker_whose_device_is_lost_ends_and_what_was_drawn_on_it_is_drawn_elsewhere(
    stack: Stack, clients: Clients, pair: Pair, tmp_path: Path
) -> None:
    """Each of them may be the one that broke it, and is drawn with the next worker to itself."""
    cause = tmp_path / "cause"
    cause.touch()
    first = await pair.start("first", EASEL_SLOTS="2")
    broken = await clients.ask(f"{ENDLESS} device=lost while={cause}", steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", broken)
    beside = await clients.ask(ENDLESS, steps=ENDLESS_STEPS, model=pair.model)
    await clients.until_seen("RUNNING", beside)
    pair.hurry("first")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await first.wait() == 1
    cause.unlink()
    pair.hurry("second")
    await pair.start("second")
    kept = await clients.assert_kept()
    for generation_id in (broken, beside):
        first_end, *others, last_end = kept.outcomes(generation_id)
        assert (first_end, last_end) == ("LOST", "SUCCEEDED")
        # Handed back, where the other one was just drawn alone.
        assert set(others) <= {"RELEASED"}
    assert await losses(stack, broken, beside) == {broken: 1, beside: 1}


async def test_what_freezes_its_worker_is_drawn_by_another_one(
    stack: Stack, clients: Clients, pair: Pair, tmp_path: Path
) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    frozen = await pair.start("first")
    pair.hurry("first")
    generation_id = await clients.ask(f"{ENDLESS} process=stopped while={cause}", steps=ENDLESS_STEPS, model=pair.model)
    await until(partial(is_frozen, frozen))
    pair.linger("first")
    cause.unlink()
    pair.hurry("second")
    await pair.start("second")
    # Who is drawn on the other worker meanwhile notices nothing, or has to wait until what was lost is drawn alone.
    others = await clients.ask_often(4, "step=0.2", model=pair.model)
    await clients.until_seen("SUCCEEDED", generation_id, *others)
    # It wakes up in the middle of the steps, and hears that there is nothing to draw any more.
    frozen.resume()
    await until(partial(has_logged, frozen, "dropped", generation_id, "attempt=1"))
    kept = await clients.assert_kept()
    first_end, *handed_back, last_end = kept.outcomes(generation_id)
    assert (first_end, last_end) == ("LOST", "SUCCEEDED")
    for other in others:
        *before, last_end = kept.outcomes(other)
        assert last_end == "SUCCEEDED"
        handed_back += before
    assert set(handed_back) <= {"RELEASED"}
    assert await losses(stack, generation_id, *others) == {generation_id: 1} | dict.fromkeys(others, 0)


async def is_frozen(worker: Worker) -> bool:
    return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED

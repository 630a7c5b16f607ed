"""Hints that come twice, to two workers, in any order, late or never: each costs a request at most."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial

import pytest

from easel import subjects
from easel.bus import Bus
from easel.client import Client
from easel.embedded import Stack
from easel.embedded.process import Process
from easel.embedded.services import Worker, live_workers
from easel.v1.generation_pb2 import GenerationSpec, GenerationState
from easel.worker.v1.task_pb2 import TaskHint
from tests.faults.clients import Clients, Endless, until
from tests.faults.parts import worker_beside
from tests.scraping import scrape


class Hints:
    """The hints of one model, as a gateway and the server see them."""

    def __init__(self, bus: Bus, *, model: str) -> None:
        self._bus = bus
        self.model = model

    async def publish(self, generation_id: str) -> None:
        await self._bus.publish(subjects.task(self.model, generation_id), TaskHint(generation_id=generation_id))

    async def lose_all(self) -> None:
        await self._bus.jetstream.purge_stream(subjects.TASKS_STREAM, subject=subjects.tasks_of(self.model))

    async def are_gone(self) -> bool:
        return await self.are(0)

    async def are(self, count: int) -> bool:
        """Whether so many are left."""
        info = await self._bus.jetstream.stream_info(
            subjects.TASKS_STREAM, subjects_filter=subjects.tasks_of(self.model)
        )
        return len(info.state.subjects or {}) == count


@pytest.fixture
async def hints(stack: Stack) -> AsyncIterator[Hints]:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("operator"), name="test")
    yield Hints(bus, model=f"hints-{uuid.uuid4().hex[:8]}")
    await bus.close()


@pytest.fixture
async def workers(stack: Stack, hints: Hints) -> AsyncIterator[Sequence[Worker]]:
    """Two that draw what is hinted at."""
    async with AsyncExitStack() as running:
        beside = [
            # One at a time, so that what is asked for beyond that waits in the queue.
            worker_beside(stack, model=hints.model, name=f"{hints.model}-{number}", EASEL_SLOTS="1")
            for number in (1, 2)
        ]
        yield [await running.enter_async_context(one) for one in beside]


async def count_claims(workers: Sequence[Worker], *answers: str) -> int:
    """Count what workers were answered, or all that they asked."""
    scraped = [await scrape(worker.metrics_url) for worker in workers]
    labels = [{"answer": answer} for answer in answers] or [{}]
    return sum(int(one.value("easel_worker_claims_total", **label)) for one in scraped for label in labels)


async def have_logged(processes: Sequence[Process], *words: str) -> bool:
    """Whether each has a line with all these words."""
    logs = [await asyncio.to_thread(process.log.read_text) for process in processes]
    return all(any(all(word in line for word in words) for line in log.splitlines()) for log in logs)


async def test_of_two_workers_with_the_same_hint_one_draws_and_the_other_drops_it(
    stack: Stack, clients: Clients, hints: Hints, workers: Sequence[Worker], endless: Endless
) -> None:
    for worker in workers:
        worker.pause()

    async def nobody_lives() -> bool:
        return (await live_workers(stack.target)).get(hints.model, 0) == 0

    # So that no gateway hints at it: we do.
    await until(nobody_lives)
    generation_id = await clients.ask(endless.script, steps=endless.steps, model=hints.model)
    for gateway in stack.gateways:
        gateway.pause()
    try:
        for worker in workers:
            worker.resume()
        while not await have_logged(workers, "no answer to a claim", generation_id):
            await hints.publish(generation_id)
            await asyncio.sleep(0.1)
    finally:
        for gateway in stack.gateways:
            gateway.resume()
    await until(partial(are_answered, workers))
    assert await count_claims(workers, "GRANTED") == 1
    assert await count_claims(workers, "HELD") >= 1
    await until(hints.are_gone)
    endless.end()
    (await clients.assert_kept()).assert_drawn_once(generation_id)


async def are_answered(workers: Sequence[Worker]) -> bool:
    return all([await count_claims([worker], "GRANTED", "HELD", "GONE") for worker in workers])


#: From long ago: it was purged since, with its tombstone.
UNKNOWN = "01920000-0000-7000-8000-000000000001"


async def test_hints_from_long_ago_cost_a_request_each(
    stack: Stack, client: Client, clients: Clients, hints: Hints, endless: Endless
) -> None:
    # With a slot to spare, or it would not look at them.
    async with worker_beside(stack, model=hints.model, EASEL_SLOTS="2") as worker:
        done = await clients.ask(model=hints.model)
        # Before the next is asked for, or its hint may come first and hold the device until it is hurried.
        await clients.until_seen("SUCCEEDED", done)
        running = await clients.ask(endless.script, steps=endless.steps, model=hints.model)
        await clients.until_seen("RUNNING", running)
        spec = GenerationSpec(prompt=endless.script, steps=endless.steps, model=hints.model)
        filler = await client.create(spec)
        await until(partial(is_running, client, filler.id))
        # With no slot to spare it does not ask for what is withdrawn now.
        cancelled, deleted = [await client.create(spec) for _ in range(2)]
        for generation in (cancelled, deleted):
            await client.cancel(generation.id)
        await client.delete(deleted.id)
        await until(hints.are_gone)
        await client.cancel(filler.id)

        for generation_id, answer in (
            (done, "GONE"),
            (cancelled.id, "GONE"),
            (deleted.id, "GONE"),
            (UNKNOWN, "GONE"),
            (running, "HELD"),
        ):
            before, asked = await count_claims([worker], answer), await count_claims([worker])
            await hints.publish(generation_id)
            await until(hints.are_gone)
            assert await count_claims([worker], answer) == before + 1
            assert await count_claims([worker]) == asked + 1

        endless.end()
        (await clients.assert_kept()).assert_drawn_once(done, running)
        assert (await client.get(cancelled.id)).attempt_count == 0


async def is_running(client: Client, generation_id: str) -> bool:
    generation = await client.get(generation_id)
    return generation.state == GenerationState.GENERATION_STATE_RUNNING


async def test_hints_that_come_again_and_again_in_any_order(
    clients: Clients, hints: Hints, workers: Sequence[Worker]
) -> None:
    ids = await clients.ask_often(6, "step=0.1", model=hints.model)
    order = [*ids] * 5
    random.Random(4).shuffle(order)
    for generation_id in order:
        await hints.publish(generation_id)
    (await clients.assert_kept()).assert_drawn_once(*ids)
    await until(hints.are_gone)
    # Those of the gateways, and ours.
    assert await count_claims(workers) <= len(ids) + len(order)


async def test_hints_that_are_lost_before_anybody_saw_them(
    stack: Stack, clients: Clients, hints: Hints, workers: Sequence[Worker], endless: Endless
) -> None:
    busy = await clients.ask_often(2, endless.script, steps=endless.steps, model=hints.model)
    await clients.until_seen("RUNNING", *busy)
    waiting = await clients.ask_often(4, model=hints.model)
    await until(partial(hints.are, len(waiting)))
    await hints.lose_all()
    endless.end()
    (await clients.assert_kept()).assert_drawn_once(*busy, *waiting)
    # And not only because they were out for long.
    found = [await have_logged([gateway], f"hints of {hints.model} were lost") for gateway in stack.gateways]
    assert any(found)

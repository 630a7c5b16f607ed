import asyncio
from collections.abc import Awaitable, Callable

import pytest

from easel import subjects
from easel.bus import Bus
from easel.embedded.nats import Nats
from easel.worker.v1.task_pb2 import CancelNotice
from inference import hints
from inference.hints import Hint, Hints
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway

Connect = Callable[[], Awaitable[Bus]]


@pytest.fixture
def queue(bus: Bus) -> Hints:
    return Hints(bus, model=MODEL)


async def next_hint(queue: Hints) -> Hint:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if pulled := await queue.pull(1):
                (hint,) = pulled
                return hint


async def test_a_settled_hint_is_gone(queue: Hints, gateway: ScriptedGateway) -> None:
    generation_id = await gateway.queue()

    hint = await next_hint(queue)
    await hint.settle()

    assert hint.generation_id == generation_id
    assert await gateway.hints_left() == 0


async def test_a_hint_that_was_put_back_comes_again(queue: Hints, gateway: ScriptedGateway) -> None:
    generation_id = await gateway.queue()

    await (await next_hint(queue)).put_back(delay_seconds=0.05)

    assert (await next_hint(queue)).generation_id == generation_id
    assert await gateway.hints_left() == 1


async def test_no_more_hints_are_pulled_than_there_is_room_for(queue: Hints, gateway: ScriptedGateway) -> None:
    expected = {await gateway.queue() for _ in range(3)}

    first = await next_hint(queue)
    others = [hint for _ in range(2) for hint in await queue.pull(2)]

    assert len(others) == 2
    assert {first.generation_id, *(hint.generation_id for hint in others)} == expected


async def test_an_empty_queue_gives_none_after_a_while(queue: Hints, gateway: ScriptedGateway) -> None:
    await next_empty(queue)

    assert not await queue.pull(1)


async def test_an_unreadable_hint_is_taken_off(queue: Hints, gateway: ScriptedGateway) -> None:
    await gateway.bus.jetstream.publish(subjects.task(MODEL, "unreadable"), b"\xff\xff")
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id
    assert await gateway.hints_left() == 1


async def test_another_models_hints_are_left_alone(queue: Hints, gateway: ScriptedGateway) -> None:
    await gateway.bus.publish(subjects.task("another", "x"), CancelNotice())
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id


async def test_a_queue_that_does_not_exist_yet_is_waited_for(bus: Bus, gateway: ScriptedGateway) -> None:
    await gateway.delete_consumer()
    queue = Hints(bus, model=MODEL)
    assert not await queue.pull(1)

    await gateway.make_consumer()
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id


async def test_a_queue_may_be_missing_for_ever(
    bus: Bus, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "MAX_PROBE_WAIT_SECONDS", 0.0)
    await gateway.delete_consumer()
    queue = Hints(bus, model=MODEL)

    for _ in range(1_100):
        assert not await queue.pull(1)

    await gateway.make_consumer()
    generation_id = await gateway.queue()
    assert (await next_hint(queue)).generation_id == generation_id


@pytest.mark.parametrize("probes_fast", [True, False])
async def test_a_deleted_queue_is_found_again(
    queue: Hints, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, probes_fast: bool
) -> None:
    monkeypatch.setattr(hints, "PULLS_BEFORE_PROBE", 1 if probes_fast else 1_000)
    await next_empty(queue)

    await gateway.delete_consumer()
    await queue.pull(1)
    await gateway.make_consumer()
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id


async def test_a_queue_deleted_while_it_is_pulled_from_is_found_again(queue: Hints, gateway: ScriptedGateway) -> None:
    await next_empty(queue)
    pulling = asyncio.create_task(queue.pull(1))
    await asyncio.sleep(0)

    await gateway.delete_consumer()
    assert not await pulling
    await gateway.make_consumer()
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id


async def test_a_wiped_server_is_survived(queue: Hints, gateway: ScriptedGateway, nats: Nats) -> None:
    await next_empty(queue)

    await nats.wipe()
    async with asyncio.timeout(WAIT_SECONDS):
        while not gateway.bus.connected_seconds:
            await queue.pull(1)
    await gateway.make_streams()
    generation_id = await gateway.queue()

    assert (await next_hint(queue)).generation_id == generation_id


async def next_empty(queue: Hints) -> None:
    """Bind, so that what follows happens to a queue in use."""
    assert not await queue.pull(1)
    assert queue._subscription is not None

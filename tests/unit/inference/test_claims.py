import asyncio
from collections.abc import AsyncIterator

import pytest

from easel.bus import Bus
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.task_pb2 import Task
from inference import claims, gateways
from inference.attempts import Attempts
from inference.claims import Claims
from inference.gateways import Gateways
from inference.hints import Hints
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, eventually

ANSWERED_QUICKLY_SECONDS = 0.1


class Running:
    """Claims at work, and what they were granted."""

    def __init__(self, bus: Bus, *, slots: int = 1) -> None:
        self.granted: asyncio.Queue[Task] = asyncio.Queue()
        self.attempts = Attempts(slots=slots)
        self.stop = asyncio.Event()
        self.claims = Claims(
            Hints(bus, model=MODEL),
            Gateways(bus, worker_id="worker-1"),
            self.attempts,
            on_granted=self.granted.put_nowait,
        )
        self.task = asyncio.create_task(self.claims.run(self.stop))

    async def next_granted(self) -> Task:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.granted.get()


@pytest.fixture
async def running(bus: Bus, gateway: ScriptedGateway) -> AsyncIterator[Running]:
    running = Running(bus)
    yield running
    running.stop.set()
    await running.task


async def test_a_granted_claim_is_taken_and_its_hint_settled(running: Running, gateway: ScriptedGateway) -> None:
    generation_id = await gateway.queue()

    task = await running.next_granted()
    await gateway.until_no_hint_is_left()

    assert task == gateway.tasks[generation_id]
    assert gateway.claims[0].worker_id == "worker-1"
    assert len(gateway.claims) == 1


@pytest.mark.parametrize("answer", [ClaimAnswer.CLAIM_ANSWER_GONE, ClaimAnswer.CLAIM_ANSWER_HELD])
async def test_what_is_not_to_be_had_is_dropped(
    running: Running, gateway: ScriptedGateway, answer: "ClaimAnswer.ValueType"
) -> None:
    gateway.answer = lambda _request: ClaimResponse(answer=answer)

    await gateway.queue()
    await gateway.until(lambda: bool(gateway.claims))
    await gateway.until_no_hint_is_left()

    assert running.granted.empty()


async def test_not_yet_asks_again_later_for_the_same_hint(running: Running, gateway: ScriptedGateway) -> None:
    def not_yet_twice(request: ClaimRequest) -> ClaimResponse:
        if len(gateway.claims) > 2:
            return gateway.grant(request)
        response = ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_NOT_YET)
        response.retry_after.FromMilliseconds(20)
        return response

    gateway.answer = not_yet_twice
    generation_id = await gateway.queue()

    assert (await running.next_granted()).generation_id == generation_id
    assert len(gateway.claims) == 3
    assert len({request.claim_id for request in gateway.claims}) == 3


async def test_a_lost_answer_is_asked_for_under_the_same_claim(
    running: Running, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RETRY_AFTER_SECONDS", 0.02)
    monkeypatch.setattr(gateways, "CLAIM_TIMEOUT_SECONDS", ANSWERED_QUICKLY_SECONDS)
    silent = claims.CLAIM_TRIES + 1
    gateway.answer = lambda request: gateway.grant(request) if len(gateway.claims) > silent else None

    generation_id = await gateway.queue()

    assert (await running.next_granted()).generation_id == generation_id
    assert len(gateway.claims) == silent + 1
    assert len({request.claim_id for request in gateway.claims}) == 1


async def test_without_a_gateway_the_hint_waits_for_one(
    running: Running, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RETRY_AFTER_SECONDS", 0.02)
    await gateway.bus.stop_listening()
    generation_id = await gateway.queue()
    await eventually(lambda: generation_id in running.claims._unanswered)

    await gateway.listen()

    assert (await running.next_granted()).generation_id == generation_id
    assert not running.claims._unanswered


async def test_what_is_pulled_when_stopping_goes_back(bus: Bus, gateway: ScriptedGateway) -> None:
    running = Running(bus)
    await eventually(lambda: running.claims._hints._subscription is not None)

    running.stop.set()
    generation_id = await gateway.queue()
    await running.task
    # Another worker gets it at once, without the ack wait.
    other = Running(bus)

    assert (await other.next_granted()).generation_id == generation_id
    assert running.granted.empty()
    other.stop.set()
    await other.task

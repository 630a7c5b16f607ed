import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from easel.bus import Bus
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.task_pb2 import Task
from inference import claims, gateways
from inference.attempts import Attempts
from inference.claims import Claims
from inference.gateways import Gateways
from inference.hints import Hint, Hints
from inference.metrics import Metrics
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, eventually

ANSWERED_QUICKLY_SECONDS = 0.1


class Running:
    """Claims at work, and what they were granted."""

    def __init__(self, bus: Bus, *, slots: int = 1) -> None:
        self.granted: asyncio.Queue[Task] = asyncio.Queue()
        self.attempts = Attempts(slots=lambda: slots, hand_back=AsyncMock())
        self.stop = asyncio.Event()
        self._registry = CollectorRegistry()
        self.claims = Claims(
            Hints(bus, model=MODEL),
            Gateways(bus, worker_id="worker-1"),
            self.attempts,
            on_granted=self.granted.put_nowait,
            metrics=Metrics(self._registry, model=MODEL),
        )
        self.task = asyncio.create_task(self.claims.run(self.stop))

    def counted(self, answer: str) -> float | None:
        return self._registry.get_sample_value("easel_worker_claims_total", {"model": MODEL, "answer": answer})

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
    assert (running.counted("GRANTED"), running.counted("NO_ANSWER")) == (1, 0)
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


def not_yet(**retry_after: float) -> ClaimResponse:
    response = ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_NOT_YET)
    response.retry_after.FromTimedelta(timedelta(**retry_after))
    return response


async def test_not_yet_asks_again_later_for_the_same_hint(running: Running, gateway: ScriptedGateway) -> None:
    gateway.answer = lambda request: gateway.grant(request) if len(gateway.claims) > 2 else not_yet(milliseconds=20)
    generation_id = await gateway.queue()

    assert (await running.next_granted()).generation_id == generation_id
    assert len(gateway.claims) == 3
    assert len({request.claim_id for request in gateway.claims}) == 3
    await gateway.until_no_hint_is_left()


async def test_an_answer_of_a_newer_gateway_leaves_the_hint_for_later(
    running: Running, gateway: ScriptedGateway
) -> None:
    strange = ClaimResponse.FromString(b"\x08\x64")  # the answer 100
    gateway.answer = lambda request: gateway.grant(request) if len(gateway.claims) > 1 else strange
    generation_id = await gateway.queue()

    assert (await running.next_granted()).generation_id == generation_id
    assert (running.counted("UNKNOWN"), running.counted("GRANTED")) == (1, 1)
    await gateway.until_no_hint_is_left()


async def test_what_was_pulled_when_there_is_no_room_any_more_goes_back_unasked(
    bus: Bus, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull, pulls = Hints.pull, asyncio.Queue[int]()

    async def pull_slowly(hints: Hints, most: int) -> Sequence[Hint]:
        found = await pull(hints, most)
        if found:
            pulls.put_nowait(len(found))
            if not filled.is_set():
                filled.set()
                worker.attempts.reserve()
        return found

    monkeypatch.setattr(Hints, "pull", pull_slowly)
    filled = asyncio.Event()
    worker = Running(bus)
    generation_id = await gateway.queue()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await pulls.get() == 1
        worker.attempts.unreserve()
        assert await pulls.get() == 1

    assert (await worker.next_granted()).generation_id == generation_id
    assert len(gateway.claims) == 1
    worker.stop.set()
    await worker.task


class Record:
    """Grants as the database does, to one claim id for each generation; nobody hears of it before `speaks`."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self.claim_ids: dict[str, str] = {}
        self.speaks = False
        self._gateway = gateway
        gateway.answer = self.answer

    def answer(self, request: ClaimRequest) -> ClaimResponse | None:
        if self.claim_ids.setdefault(request.generation_id, request.claim_id) != request.claim_id:
            return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_HELD)
        return self._gateway.grant(request) if self.speaks else None


@pytest.fixture
def record(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(gateways, "CLAIM_TIMEOUT_SECONDS", ANSWERED_QUICKLY_SECONDS)
    monkeypatch.setattr(claims, "ASK_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(claims, "HINT_AGAIN_SECONDS", 0.02)
    return Record(gateway)


async def test_a_grant_nobody_heard_of_is_asked_for_though_the_hint_went_to_another_worker(
    record: Record, running: Running, bus: Bus, gateway: ScriptedGateway
) -> None:
    generation_id = await gateway.queue()
    await eventually(lambda: generation_id in record.claim_ids)
    other = Running(bus)
    await gateway.until_no_hint_is_left()  # the other one was told that it is held

    record.speaks = True

    assert (await running.next_granted()).generation_id == generation_id
    assert {one.claim_id for one in gateway.claims if one.claim_id != record.claim_ids[generation_id]}
    assert other.granted.empty()
    other.stop.set()
    await other.task


async def test_what_is_asked_for_keeps_its_slot_until_it_is_answered(
    record: Record, bus: Bus, gateway: ScriptedGateway
) -> None:
    running = Running(bus, slots=2)
    first, second = await gateway.queue(), await gateway.queue()
    await gateway.until(lambda: len(gateway.claims) > 6)
    third = await gateway.queue()
    await gateway.until(lambda: len(gateway.claims) > 12)

    assert set(record.claim_ids) == {first, second}
    assert running.attempts.free_slots == 0

    gateway.answer = lambda _request: ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GONE)
    await gateway.until_no_hint_is_left()
    await eventually(lambda: running.attempts.free_slots == 2)
    assert gateway.claims[-1].generation_id in {first, second, third}
    assert third in {one.generation_id for one in gateway.claims}
    running.stop.set()
    await running.task


async def test_a_generation_that_is_asked_for_is_not_asked_for_twice_when_its_hint_comes_again(
    record: Record, bus: Bus, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back: list[str] = []

    async def note(hint: Hint, *, delay_seconds: float = 0.0) -> None:
        put_back.append(hint.generation_id)
        await put_back_really(hint, delay_seconds=delay_seconds)

    put_back_really = Hint.put_back
    monkeypatch.setattr(Hint, "put_back", note)
    running = Running(bus, slots=2)
    generation_id = await gateway.queue()
    await eventually(lambda: put_back.count(generation_id) > 3)
    assert {one.claim_id for one in gateway.claims} == {record.claim_ids[generation_id]}
    assert running.attempts.free_slots == 1

    record.speaks = True
    await gateway.until_no_hint_is_left()

    running.stop.set()
    await running.task
    assert running.granted.qsize() == 1


@pytest.mark.parametrize("speaks", [True, False])
async def test_when_stopping_an_open_claim_is_asked_for_once_more(
    record: Record, bus: Bus, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, speaks: bool
) -> None:
    monkeypatch.setattr(claims, "ASK_AGAIN_SECONDS", 600)
    running = Running(bus)
    generation_id = await gateway.queue()
    await eventually(lambda: generation_id in record.claim_ids)

    record.speaks = speaks
    if speaks:
        monkeypatch.setattr(gateways, "CLAIM_TIMEOUT_SECONDS", WAIT_SECONDS)
    running.stop.set()
    await asyncio.wait_for(running.task, WAIT_SECONDS)

    await gateway.until(lambda: len(gateway.claims) == 2)
    assert running.granted.qsize() == speaks
    assert (running.counted("NO_ANSWER"), running.counted("GRANTED")) == ((1, 1) if speaks else (2, 0))
    assert running.attempts.free_slots == 1


async def test_without_a_gateway_the_claim_waits_for_one(
    record: Record, running: Running, gateway: ScriptedGateway
) -> None:
    record.speaks = True
    await gateway.bus.stop_listening()
    generation_id = await gateway.queue()
    await eventually(lambda: running.attempts.free_slots == 0)

    await gateway.listen()

    assert (await running.next_granted()).generation_id == generation_id
    await eventually(lambda: running.attempts.free_slots == 1)


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

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from unittest.mock import AsyncMock

import pytest

from easel.bus import Bus, BusUnavailable
from easel.embedded.nats import Nats
from easel.v1.model_pb2 import Model
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import AttemptRef
from inference import renewals
from inference.attempt import Attempt, Workshop
from inference.attempts import Attempts
from inference.cancellation import Cancellation
from inference.engine.adapter import Adapter
from inference.engine.threaded_engine import ThreadedEngine
from inference.gateways import Gateways
from inference.metrics import Metrics
from inference.pictures import Encoder
from inference.renewals import Renewals
from inference.results import Results
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_adapter import Gate, ScriptedAdapter
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, eventually
from tests.unit.inference.test_attempt import MemoryStore

Start = Callable[[Adapter], Awaitable[ThreadedEngine]]
#: So long that only a nudge can be the reason of a second renewal.
FOR_EVER_SECONDS = 3600.0


class Held:
    """A worker that holds one attempt, which waits at a gate in its second step."""

    def __init__(self, bus: Bus, engine: ThreadedEngine, results: Results, *, gate: Gate, generation_id: str) -> None:
        self.results = results
        self._passing = asyncio.Event()
        self.bus = bus
        self.engine = engine
        self.gate = gate
        self.generation_id = generation_id
        self.slots = 2
        self.attempts = Attempts(slots=lambda: self.slots, hand_back=AsyncMock())

    def renewals(self, *, period_seconds: float) -> Renewals:
        return Renewals(
            Gateways(self.bus, worker_id="worker-1"),
            self.attempts,
            self.engine,
            model=Model(name=MODEL),
            period_seconds=period_seconds,
        )

    def hold_back_results(self) -> asyncio.Event:
        """Have no result delivered until they may pass; the event tells that one waits."""
        arrived = asyncio.Event()
        deliver = self.results.deliver

        async def wait_and_deliver(result: Result) -> None:
            arrived.set()
            await self._passing.wait()
            await deliver(result)

        self._passing.clear()
        self.results.deliver = wait_and_deliver  # type: ignore[method-assign]
        return arrived

    def let_results_pass(self) -> None:
        self._passing.set()

    @property
    def ref(self) -> AttemptRef:
        return next(iter(self.attempts)).ref


@pytest.fixture
async def held(bus: Bus, gateway: ScriptedGateway, start_engine: Start, metrics: Metrics) -> AsyncIterator[Held]:
    gate, results = Gate(), Results(bus)
    engine = await start_engine(ScriptedAdapter(lambda _prompt, step: gate() if step == 2 else None))
    workshop = Workshop(
        worker_id="worker-1",
        bus=bus,
        engine=engine,
        encoder=Encoder(),
        store=MemoryStore(),
        results=results,
        metrics=metrics,
    )
    generation_id = await gateway.queue()
    held = Held(bus, engine, results, gate=gate, generation_id=generation_id)
    attempts = held.attempts
    attempts.hold(Attempt(gateway.tasks[generation_id], workshop))
    await asyncio.to_thread(gate.reached.wait)
    yield held
    gate.open()
    await attempts.drain(within_seconds=WAIT_SECONDS)


async def until_dropped(held: Held) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while held.attempts:
            await held.attempts.drain(within_seconds=WAIT_SECONDS)


@pytest.mark.parametrize(("period_seconds", "patience_seconds"), [(0.3, 0.6), (5.0, 2.0)])
async def test_an_answer_is_waited_for_no_longer_than_leaves_time_to_ask_again(
    held: Held, period_seconds: float, patience_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = AsyncMock(side_effect=BusUnavailable("nobody answers"))
    monkeypatch.setattr(held.bus, "request", request)

    assert not await held.renewals(period_seconds=period_seconds).renew()

    assert request.call_args.kwargs["timeout_seconds"] == patience_seconds


async def test_a_renewal_tells_what_is_served_and_held(held: Held, gateway: ScriptedGateway) -> None:
    assert await held.renewals(period_seconds=1).renew()

    (request,) = gateway.renewals
    assert request.worker_id == "worker-1"
    assert [model.name for model in request.models] == [MODEL]
    assert (request.slots, request.free_slots) == (2, 1)
    assert list(request.attempts) == [held.ref]


def without_its_claim(ref: AttemptRef) -> AttemptRef:
    return AttemptRef(generation_id=ref.generation_id, attempt=ref.attempt)


@pytest.mark.parametrize("named", [lambda ref: ref, without_its_claim], ids=["whole", "by an older gateway"])
async def test_what_is_no_longer_ours_is_dropped(
    held: Held, gateway: ScriptedGateway, named: Callable[[AttemptRef], AttemptRef]
) -> None:
    gateway.dropped = [named(held.ref), AttemptRef(generation_id="unknown", attempt=1)]

    await held.renewals(period_seconds=1).renew()
    await until_dropped(held)

    assert not gateway.results[held.generation_id]


async def test_what_is_stored_is_handed_in_although_it_is_no_longer_ours(held: Held, gateway: ScriptedGateway) -> None:
    """The connection was away while it was stored, and another worker has begun to draw the same."""
    handing_in = held.hold_back_results()
    held.gate.open()
    await handing_in.wait()
    gateway.dropped = [held.ref]

    await held.renewals(period_seconds=1).renew()
    held.let_results_pass()
    await until_dropped(held)

    (result,) = gateway.results[held.generation_id]
    assert result.HasField("success")


async def test_a_cancel_notice_drops_at_once(held: Held, gateway: ScriptedGateway) -> None:
    await Cancellation(held.bus, held.attempts).listen()
    # A round trip: the server has the subscription by now. nats-py's own `flush` overtakes what waits to be written.
    await held.bus.jetstream.account_info()

    await gateway.cancel("another")
    await gateway.cancel(held.generation_id)
    await until_dropped(held)

    assert not gateway.results[held.generation_id]


async def test_what_a_wedged_device_holds_is_not_renewed(
    held: Held, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.engine._pulse.expect(within_seconds=0)
    assert not held.engine.alive

    await held.renewals(period_seconds=1).renew()

    (request,) = gateway.renewals
    assert not request.attempts
    assert request.free_slots == 0


async def test_renewals_go_on(held: Held, gateway: ScriptedGateway) -> None:
    running = asyncio.create_task(held.renewals(period_seconds=0.01).run())

    await gateway.until(lambda: len(gateway.renewals) >= 3)
    running.cancel()


async def test_a_silent_gateway_is_asked_again_soon(
    held: Held, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "RETRY_SECONDS", 0.01)
    await gateway.bus.stop_listening()
    running = asyncio.create_task(held.renewals(period_seconds=FOR_EVER_SECONDS).run())
    await asyncio.sleep(0)

    await gateway.listen()
    await gateway.until(lambda: bool(gateway.renewals))
    running.cancel()


async def test_twice_the_slots_hasten_the_next_renewal_and_a_few_more_do_not(
    held: Held, gateway: ScriptedGateway
) -> None:
    renewing = held.renewals(period_seconds=FOR_EVER_SECONDS)
    running = asyncio.create_task(renewing.run())
    await gateway.until(lambda: len(gateway.renewals) == 1)

    await eventually(lambda: renewing._told_slots == 2)  # the answer is there, too
    held.slots = 3
    renewing.hasten_if_it_matters()
    assert not renewing._wake.is_set()
    held.slots = 4
    renewing.hasten_if_it_matters()

    await gateway.until(lambda: len(gateway.renewals) == 2)
    assert [request.slots for request in gateway.renewals] == [2, 4]
    running.cancel()


async def test_a_new_connection_hastens_the_next_renewal(held: Held, gateway: ScriptedGateway, nats: Nats) -> None:
    renewing = held.renewals(period_seconds=FOR_EVER_SECONDS)
    held.bus.on_connect(renewing.hasten)
    running = asyncio.create_task(renewing.run())
    await gateway.until(lambda: len(gateway.renewals) == 1)

    await nats.stop()
    await nats.start()
    await gateway.until(lambda: len(gateway.renewals) == 2)
    running.cancel()

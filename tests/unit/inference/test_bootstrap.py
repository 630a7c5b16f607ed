"""The worker as a whole, in this process, with a scripted model: what a real one does too seldom to wait for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from easel.embedded.nats import Nats
from easel.embedded.s3 import S3
from easel.settings import Misconfigured
from inference.bootstrap import EngineDied, Worker, WorkerBroken
from inference.engine.adapter import Adapter, DeviceLost, OutOfMemory
from inference.engine.observer import Observer
from inference.hints import Hint, Hints
from inference.models import Card, ModelSource, ModelUnavailable
from inference.settings import WorkerSettings
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_adapter import Gate, ScriptedAdapter
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, spec

pytestmark = pytest.mark.usefixtures("all_rows_pay")


@pytest.fixture
def settings(nats: Nats, s3: S3) -> WorkerSettings:
    return WorkerSettings(
        model="nobody/scripted",
        model_name=MODEL,
        nats_url=nats.url("worker"),
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=SecretStr(s3.secret_key),
        metrics_listen="",
        slots=2,
        renew_seconds=0.05,
        drain_grace_seconds=60,
    )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def worker(settings: WorkerSettings, gate: Gate, gateway: ScriptedGateway) -> AsyncIterator[Worker]:
    """A worker whose device is lost in the second step of every drawing, once the gate opens."""

    def lose(_prompt: str, step: int) -> None:
        if step == 2:
            gate()
            raise DeviceLost("illegal memory access")

    async with started(settings, ScriptedAdapter(lose)) as worker:
        yield worker
        gate.open()


@asynccontextmanager
async def started(settings: WorkerSettings, adapter: Adapter) -> AsyncIterator[Worker]:
    worker = Worker(settings, model=ModelSource(card=Card(), load=lambda _observer: adapter))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


async def two_held(gateway: ScriptedGateway, gate: Gate) -> tuple[str, str]:
    drawn = await gateway.queue(spec(model=MODEL))
    await asyncio.to_thread(gate.reached.wait, WAIT_SECONDS)
    waiting = await gateway.queue(spec(model=MODEL))
    await gateway.until(lambda: bool(gateway.reports[waiting]))
    return drawn, waiting


@pytest.mark.parametrize("error", [OutOfMemory("16 GiB"), MemoryError()], ids=["of the device", "of the machine"])
@pytest.mark.usefixtures("gateway")
async def test_a_model_that_does_not_fit_says_what_to_do(error: Exception, settings: WorkerSettings) -> None:
    def load(_observer: Observer) -> Adapter:
        raise error

    worker = Worker(settings, model=ModelSource(card=Card(), load=load))
    with pytest.raises(ModelUnavailable, match="too little memory for a single picture; EASEL_OFFLOAD=model"):
        await worker.start()
    await worker.close()


async def test_a_lost_device_ends_the_worker_and_only_what_waited_is_handed_back(
    worker: Worker, gate: Gate, gateway: ScriptedGateway
) -> None:
    working = asyncio.create_task(worker.work(asyncio.Event()))
    drawn, waiting = await two_held(gateway, gate)

    gate.open()

    with pytest.raises(EngineDied):
        await asyncio.wait_for(working, WAIT_SECONDS)
    assert [ref.generation_id for release in gateway.releases for ref in release.attempts] == [waiting]
    assert not gateway.results[drawn]
    assert not gateway.results[waiting]


async def test_a_wedged_device_ends_the_worker_too(worker: Worker, gate: Gate, gateway: ScriptedGateway) -> None:
    working = asyncio.create_task(worker.work(asyncio.Event()))
    _, waiting = await two_held(gateway, gate)

    worker._engine._pulse.expect(within_seconds=0)

    with pytest.raises(EngineDied):
        await asyncio.wait_for(working, WAIT_SECONDS)
    assert [ref.generation_id for release in gateway.releases for ref in release.attempts] == [waiting]


async def test_a_defect_in_the_background_stops_the_worker(
    worker: Worker, gate: Gate, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[object]:
        raise KeyError("a defect")

    monkeypatch.setattr("inference.renewals.Renewals._renewable", lambda _self: fail())

    with pytest.raises(WorkerBroken):
        await asyncio.wait_for(worker.work(asyncio.Event()), WAIT_SECONDS)

    assert gateway.releases[-1].leaving


@pytest.mark.parametrize("grace_seconds", [60, 0])
async def test_a_defect_in_the_claims_stops_the_worker_in_order(
    settings: WorkerSettings,
    gate: Gate,
    gateway: ScriptedGateway,
    monkeypatch: pytest.MonkeyPatch,
    grace_seconds: float,
) -> None:
    async def fail(_hints: Hints, _count: int) -> Sequence[Hint]:
        raise OverflowError("a defect")

    settings = settings.model_copy(update={"drain_grace_seconds": grace_seconds, "slots": 3})
    adapter = ScriptedAdapter(lambda _prompt, _step: gate())
    async with started(settings, adapter) as worker:
        working = asyncio.create_task(worker.work(stop := asyncio.Event()))
        held = await two_held(gateway, gate)

        monkeypatch.setattr(Hints, "pull", fail)
        await asyncio.wait(
            [working, stopped := asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        stopped.cancel()
        if grace_seconds:
            gate.open()
        with pytest.raises(WorkerBroken):
            await asyncio.wait_for(working, WAIT_SECONDS)
        gate.open()

        (release,) = gateway.releases
        assert release.leaving
        if grace_seconds:
            for generation_id in held:
                assert (await gateway.result_of(generation_id)).HasField("success")
            assert not release.attempts
        else:
            assert {ref.generation_id for ref in release.attempts} == set(held)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"s3_endpoint": "http://user@host"}, "EASEL_S3_ENDPOINT"),
        ({"model": "x/...", "model_name": ""}, "EASEL_MODEL_NAME"),
    ],
)
def test_what_only_wiring_can_find_out_names_its_setting(
    settings: WorkerSettings, changed: dict[str, str], expected: str
) -> None:
    with pytest.raises(Misconfigured, match=expected):
        Worker(
            settings.model_copy(update=changed),
            model=ModelSource(card=Card(), load=lambda _observer: ScriptedAdapter()),
        )

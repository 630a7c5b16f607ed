"""The life of an attempt: a real engine and a real NATS, a scripted model, a store in memory."""

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock

import numpy as np
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from easel import subjects
from easel.bus import Bus
from easel.embedded.nats import Nats
from easel.v1.generation_pb2 import FailureReason, ImageFormat, OutputSpec, Phase, PreviewSpec
from easel.worker.v1.progress_pb2 import ProgressReport
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import AttemptRef, Task
from inference import pictures, progress
from inference.attempt import PUBLIC_PHASES, PUBLIC_REASONS, Attempt, Workshop
from inference.attempts import LEAST_MAX_DELIVERING, Attempts
from inference.engine import engine
from inference.engine.adapter import Adapter, InvalidOutput, OutOfMemory
from inference.engine.engine import Pixels
from inference.engine.threaded_engine import ThreadedEngine
from inference.metrics import Metrics
from inference.pictures import Encoder, PictureFile
from inference.results import Results
from inference.store import StorageUnavailable
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_adapter import Gate, ScriptedAdapter
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, eventually, spec

Start = Callable[[Adapter], Awaitable[ThreadedEngine]]
MakeWorkshop = Callable[[Adapter], Awaitable[Workshop]]


class MemoryStore:
    """Keeps files in memory, and fails or waits when told to."""

    def __init__(self) -> None:
        self.files: dict[str, PictureFile] = {}
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def ensure_bucket(self) -> None:
        return

    async def put(self, key: str, file: PictureFile) -> None:
        await self.open.wait()
        if self.error:
            raise self.error
        self.files[key] = file


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def make_workshop(bus: Bus, store: MemoryStore, start_engine: Start, metrics: Metrics) -> MakeWorkshop:
    async def make(adapter: Adapter) -> Workshop:
        return Workshop(
            worker_id="worker-1",
            bus=bus,
            engine=await start_engine(adapter),
            encoder=Encoder(),
            store=store,
            results=Results(bus),
            metrics=metrics,
        )

    return make


def ref_of(task: Task, *, attempt: int = 1, claim_id: str | None = None) -> AttemptRef:
    claim_id = task.claim_id if claim_id is None else claim_id
    return AttemptRef(generation_id=task.generation_id, attempt=attempt, claim_id=claim_id)


async def granted(gateway: ScriptedGateway, **given: object) -> Task:
    return gateway.tasks[await gateway.queue(spec(model=gateway.model, **given))]


async def test_a_picture_is_drawn_stored_and_delivered(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    task = await granted(gateway, image_count=2, steps=3, seed=40)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    result = await gateway.result_of(task.generation_id)
    assert (result.attempt, result.worker_id) == (1, "worker-1")
    assert [image.object_key for image in result.success.images] == [f"{task.object_prefix}{i}.png" for i in (0, 1)]
    for index, stored in enumerate(result.success.images):
        file = store.files[stored.object_key]
        assert (stored.image.index, stored.image.seed) == (index, 40 + index)
        assert (stored.image.width, stored.image.height, stored.image.content_type) == (64, 64, "image/png")
        assert stored.image.size_bytes == len(file.data)
        assert stored.image.sha256 == hashlib.sha256(file.data).hexdigest()
        assert np.asarray(Image.open(io.BytesIO(file.data)))[0, 0, 0] == 40 + index
    times = result.success.phase_times
    assert all(times.HasField(name) for name in ("waiting", "encoding", "denoising", "decoding", "uploading"))


async def test_how_long_a_picture_takes_after_its_steps_counts_for_the_next_estimate(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_SECONDS", 0)
    workshop = await make_workshop(ScriptedAdapter())
    task = await granted(gateway, image_count=2)

    await Attempt(task, workshop).run()

    times = (await gateway.result_of(task.generation_id)).success.phase_times
    took = times.decoding.ToTimedelta() + times.uploading.ToTimedelta()
    assert workshop.picture_seconds.value == pytest.approx(took.total_seconds() / 2, abs=1e-5)

    following = await granted(gateway)
    workshop.picture_seconds.add(1_000)
    await Attempt(following, workshop).run()

    await gateway.until(lambda: uploading(gateway, following))
    assert any(one.progress.eta.seconds > 200 for one in gateway.reports[following.generation_id])


async def test_every_step_and_phase_is_reported_in_order(make_workshop: MakeWorkshop, gateway: ScriptedGateway) -> None:
    gate = Gate()
    gate.open()
    task = await granted(gateway, steps=3)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    await gateway.until(lambda: bool(uploading(gateway, task)))
    reports = gateway.reports[task.generation_id]
    assert [report.sequence for report in reports] == list(range(1, len(reports) + 1))
    phases = [report.progress.phase for report in reports]
    assert phases == sorted(phases)
    assert set(phases) == {
        Phase.PHASE_WAITING,
        Phase.PHASE_ENCODING,
        Phase.PHASE_DENOISING,
        Phase.PHASE_DECODING,
        Phase.PHASE_UPLOADING,
    }
    assert reports[-1].progress.step == reports[-1].progress.steps == 3


async def test_previews_are_shown_and_never_kept(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_SECONDS", 0)
    gate = Gate()
    task = await granted(gateway, steps=3, preview=PreviewSpec(every_steps=2))
    adapter = ScriptedAdapter(lambda _prompt, step: gate() if step == 3 else None)
    running = asyncio.create_task(Attempt(task, await make_workshop(adapter)).run())

    await gateway.until(lambda: bool(previewing(gateway, task)))
    gate.open()
    await asyncio.wait_for(running, WAIT_SECONDS)

    await gateway.until(lambda: uploading(gateway, task))
    reports = gateway.reports[task.generation_id]
    (shown,) = previewing(gateway, task)
    assert [report.sequence for report in reports] == list(range(1, len(reports) + 1))
    assert (shown.preview.attempt, shown.preview.step, shown.preview.image_index) == (1, 2, 0)
    assert shown.progress.step == 2
    assert reports[reports.index(shown) - 1].progress == shown.progress  # which had been told before
    assert np.asarray(Image.open(io.BytesIO(shown.preview.data)))[0, 0, 0] == 2
    assert list(store.files) == [f"{task.object_prefix}0.png"]
    assert len(gateway.results[task.generation_id][0].success.images) == 1


async def test_a_preview_that_is_late_is_dropped_with_the_attempt(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = Gate()
    encode_preview = pictures.encode_preview

    def hold(pixels: Pixels) -> PictureFile:
        encoding()
        return encode_preview(pixels)

    monkeypatch.setattr(pictures, "encode_preview", hold)
    drawing = Gate()
    workshop = await make_workshop(ScriptedAdapter(lambda _prompt, step: drawing() if step == 4 else None))
    task = await granted(gateway, preview=PreviewSpec(every_steps=1))
    running = asyncio.create_task(Attempt(task, workshop).run())

    await asyncio.to_thread(encoding.reached.wait, WAIT_SECONDS)
    drawing.open()
    await asyncio.wait_for(running, WAIT_SECONDS)  # it does not wait for the preview
    encoding.open()
    following = await granted(gateway)
    await Attempt(following, workshop).run()

    await gateway.until(lambda: uploading(gateway, following))
    assert previewing(gateway, task) == []


def previewing(gateway: ScriptedGateway, task: Task) -> list[ProgressReport]:
    return [report for report in gateway.reports[task.generation_id] if report.HasField("preview")]


def uploading(gateway: ScriptedGateway, task: Task) -> bool:
    return any(report.progress.phase == Phase.PHASE_UPLOADING for report in gateway.reports[task.generation_id])


async def test_the_file_is_as_the_spec_wants_it(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    output = OutputSpec(format=ImageFormat.IMAGE_FORMAT_WEBP, embed_parameters=False)
    task = await granted(gateway, output=output)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    (stored,) = (await gateway.result_of(task.generation_id)).success.images
    assert stored.object_key.endswith("/0.webp")
    assert stored.image.content_type == "image/webp"


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (OutOfMemory("too little"), FailureReason.FAILURE_REASON_OUT_OF_MEMORY, False),
        (InvalidOutput("not a number"), FailureReason.FAILURE_REASON_INVALID_OUTPUT, False),
        (ValueError("odd"), FailureReason.FAILURE_REASON_MODEL_ERROR, False),
    ],
)
async def test_a_failure_of_the_model_is_delivered_with_its_reason(
    make_workshop: MakeWorkshop,
    gateway: ScriptedGateway,
    error: Exception,
    reason: "FailureReason.ValueType",
    retryable: bool,
) -> None:
    def fail(_prompt: str, _step: int) -> None:
        raise error

    task = await granted(gateway)

    await Attempt(task, await make_workshop(ScriptedAdapter(fail))).run()

    failure = (await gateway.result_of(task.generation_id)).failure
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert str(error) in failure.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageUnavailable("connection refused"), FailureReason.FAILURE_REASON_STORAGE),
        (KeyError("a defect"), FailureReason.FAILURE_REASON_INTERNAL),
        (MemoryError(), FailureReason.FAILURE_REASON_INTERNAL),
    ],
)
async def test_what_goes_wrong_after_the_drawing_is_delivered_as_retryable(
    make_workshop: MakeWorkshop,
    store: MemoryStore,
    gateway: ScriptedGateway,
    error: Exception,
    reason: "FailureReason.ValueType",
) -> None:
    store.error = error
    task = await granted(gateway)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    failure = (await gateway.result_of(task.generation_id)).failure
    assert (failure.reason, failure.retryable) == (reason, True)


async def test_a_picture_that_cannot_be_encoded_is_not_drawn_again(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> PictureFile:
        raise ValueError("EXIF data is too long")

    monkeypatch.setattr(pictures, "encode", fail)
    task = await granted(gateway)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    failure = (await gateway.result_of(task.generation_id)).failure
    assert "EXIF data is too long" in failure.message
    assert (failure.reason, failure.retryable) == (FailureReason.FAILURE_REASON_ENCODING, False)


def measured(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_an_attempt_leaves_its_measures(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    task = await granted(gateway, image_count=2, steps=3)

    await Attempt(task, await make_workshop(ScriptedAdapter())).run()

    assert measured(registry, "easel_steps_total", model=MODEL) == 6
    for phase in ("waiting", "encoding", "denoising", "decoding", "uploading"):
        assert measured(registry, "easel_phase_seconds_count", model=MODEL, phase=phase) == 1
    assert measured(registry, "easel_uploads_total", model=MODEL, outcome="stored") == 2
    sizes = [len(file.data) for file in store.files.values()]
    assert measured(registry, "easel_upload_bytes_total", model=MODEL) == sum(sizes)
    assert measured(registry, "easel_attempts_total", model=MODEL, outcome="succeeded") == 1


async def test_what_fails_is_counted_with_its_reason(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    store.error = StorageUnavailable("connection refused")

    await Attempt(await granted(gateway), await make_workshop(ScriptedAdapter())).run()

    assert measured(registry, "easel_attempts_total", model=MODEL, outcome="failed") == 1
    assert measured(registry, "easel_attempt_failures_total", model=MODEL, reason="STORAGE") == 1
    assert measured(registry, "easel_uploads_total", model=MODEL, outcome="failed") == 1


def test_every_phase_and_failure_of_the_engine_has_a_public_name() -> None:
    assert set(PUBLIC_PHASES) == set(engine.Phase)
    assert set(PUBLIC_REASONS) == set(engine.FailureKind)


async def test_a_dropped_attempt_stops_after_the_step_in_hand_and_says_nothing(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    gate = Gate()
    adapter = ScriptedAdapter(lambda _prompt, step: gate() if step == 3 else None)
    workshop = await make_workshop(adapter)
    attempts = Attempts(slots=lambda: 1, hand_back=AsyncMock())
    dropped, following = await granted(gateway, steps=100), await granted(gateway)
    attempts.hold(Attempt(dropped, workshop))
    await asyncio.to_thread(gate.reached.wait)

    attempts.drop_attempt(ref_of(dropped), reason="test")
    await attempts.drain(within_seconds=WAIT_SECONDS)
    gate.open()
    await Attempt(following, workshop).run()

    await gateway.result_of(following.generation_id)
    assert adapter.evaluated[:3] == [("a castle", step) for step in (1, 2, 3)]
    assert len(adapter.evaluated) == 3 + following.spec.steps
    assert not gateway.results[dropped.generation_id]
    assert list(store.files) == [f"{following.object_prefix}0.png"]
    assert measured(registry, "easel_attempts_total", model=MODEL, outcome="dropped") == 1
    assert measured(registry, "easel_attempts_total", model=MODEL, outcome="succeeded") == 1


async def test_only_the_attempt_that_is_meant_is_dropped(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    store.open.clear()
    workshop = await make_workshop(ScriptedAdapter())
    attempts = Attempts(slots=lambda: 2, hand_back=AsyncMock())
    task = await granted(gateway)
    attempts.hold(Attempt(task, workshop))

    attempts.drop_attempt(ref_of(task, attempt=2), reason="test")
    attempts.drop_attempt(ref_of(task, claim_id="of a record that was restored since"), reason="test")
    attempts.drop("another", reason="test")
    store.open.set()

    assert (await gateway.result_of(task.generation_id)).HasField("success")


async def test_an_attempt_is_named_by_its_claim_in_all_that_is_said_of_it(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway
) -> None:
    task = await granted(gateway)
    attempt = Attempt(task, await make_workshop(ScriptedAdapter()))
    await attempt.run()

    assert attempt.ref == ref_of(task)
    assert (await gateway.result_of(task.generation_id)).claim_id == task.claim_id
    assert {report.claim_id for report in gateway.reports[task.generation_id]} == {task.claim_id}


async def test_the_same_number_of_another_claim_is_no_repetition(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway
) -> None:
    workshop = await make_workshop(ScriptedAdapter())
    task = await granted(gateway)
    again = Task()
    again.CopyFrom(task)
    again.claim_id = "of a record that was restored since"

    await Attempt(task, workshop).run()
    await Attempt(again, workshop).run()

    stream = await gateway.bus.jetstream.stream_info(subjects.RESULTS_STREAM)
    assert stream.state.messages == 2


async def test_the_slot_is_free_once_the_steps_are_done(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    store.open.clear()
    steps, decoding = Gate(), Gate()
    adapter = ScriptedAdapter(lambda _prompt, step: steps() if step == 4 else None)
    adapter.decoding = lambda _prompt: decoding()
    workshop = await make_workshop(adapter)
    attempts = Attempts(slots=lambda: 1, hand_back=AsyncMock())
    stop = asyncio.Event()
    attempts.hold(Attempt(await granted(gateway), workshop))
    await asyncio.to_thread(steps.reached.wait)
    assert (attempts.free_slots, attempts.busy_slots) == (0, 1)

    waiting = asyncio.create_task(attempts.wait_for_room(stop))
    steps.open()

    assert await asyncio.wait_for(waiting, WAIT_SECONDS) == 1
    assert len(attempts) == 1
    decoding.open()
    store.open.set()
    await attempts.drain(within_seconds=WAIT_SECONDS)
    assert len(attempts) == 0


async def test_storage_that_lags_behind_holds_claims_back(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    store.open.clear()
    workshop = await make_workshop(ScriptedAdapter())
    attempts = Attempts(slots=lambda: 1, hand_back=AsyncMock())
    stop = asyncio.Event()
    for _ in range(LEAST_MAX_DELIVERING):
        assert await asyncio.wait_for(attempts.wait_for_room(stop), WAIT_SECONDS) == 1
        attempts.hold(Attempt(await granted(gateway), workshop))
    await gateway.until(lambda: all(uploading(gateway, task) for task in gateway.tasks.values()))

    assert attempts.free_slots == 0
    store.open.set()
    assert await asyncio.wait_for(attempts.wait_for_room(stop), WAIT_SECONDS) == 1
    await attempts.drain(within_seconds=WAIT_SECONDS)


async def test_a_result_survives_an_outage_of_nats(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, nats: Nats
) -> None:
    store.open.clear()
    task = await granted(gateway)
    running = asyncio.create_task(Attempt(task, await make_workshop(ScriptedAdapter())).run())
    await gateway.until(lambda: uploading(gateway, task))

    await nats.stop()
    store.open.set()
    await nats.start()
    await asyncio.wait_for(running, WAIT_SECONDS)

    # The stream has it, whether or not this gateway was there in time to hear it.
    await gateway.until_connected()
    stored = await gateway.bus.jetstream.get_last_msg(subjects.RESULTS_STREAM, subjects.result(task.generation_id))
    assert Result.FromString(stored.data or b"").HasField("success")


async def test_giving_up_names_what_goes_back(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    gate = Gate()
    workshop = await make_workshop(ScriptedAdapter(lambda _prompt, _step: gate()))
    attempts = Attempts(slots=lambda: 3, hand_back=AsyncMock())
    first, second, third = [await granted(gateway) for _ in range(3)]
    for task in (first, second, third):
        attempts.hold(Attempt(task, workshop))
    await asyncio.to_thread(gate.reached.wait)

    refs = await attempts.give_up(keep_back=lambda attempt: attempt.generation_id == second.generation_id)
    gate.open()

    assert [ref.generation_id for ref in refs] == [first.generation_id, third.generation_id]
    assert len(attempts) == 0


async def test_a_newer_attempt_of_the_same_generation_replaces_the_older(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    gate = Gate()
    workshop = await make_workshop(ScriptedAdapter(lambda _prompt, _step: gate()))
    attempts = Attempts(slots=lambda: 2, hand_back=AsyncMock())
    older = await granted(gateway)
    newer = Task()
    newer.CopyFrom(older)
    newer.attempt = 2

    attempts.hold(Attempt(older, workshop))
    await asyncio.to_thread(gate.reached.wait)
    attempts.hold(Attempt(newer, workshop))
    gate.open()

    assert (await gateway.result_of(older.generation_id)).attempt == 2
    await attempts.drain(within_seconds=WAIT_SECONDS)
    assert len(gateway.results[older.generation_id]) == 1


async def test_one_that_is_to_be_alone_waits_for_the_others_and_nothing_is_claimed_meanwhile(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway
) -> None:
    store.open.clear()
    adapter = ScriptedAdapter()
    workshop = await make_workshop(adapter)
    attempts = Attempts(slots=lambda: 2, hand_back=AsyncMock())
    other, alone = await granted(gateway), await granted(gateway, prompt="a dragon")
    alone.alone = True
    attempts.hold(Attempt(other, workshop))
    await gateway.until(lambda: uploading(gateway, other))
    assert attempts.free_slots == 2
    attempts.hold(Attempt(alone, workshop))
    assert attempts.free_slots == 0
    await gateway.until(lambda: uploading(gateway, other))
    assert ("a dragon", 1) not in adapter.evaluated

    store.open.set()

    assert (await gateway.result_of(alone.generation_id)).HasField("success")
    assert len(gateway.results[other.generation_id]) == 1
    await attempts.drain(within_seconds=WAIT_SECONDS)
    assert attempts.free_slots == 2


async def test_what_is_granted_beside_one_that_is_to_be_alone_is_handed_back_before_that_begins(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway
) -> None:
    adapter = ScriptedAdapter()
    workshop = await make_workshop(adapter)
    handing_back = asyncio.Event()
    handed_back: list[AttemptRef] = []

    async def hand_back(ref: AttemptRef) -> None:
        handed_back.append(ref)
        await handing_back.wait()

    attempts = Attempts(slots=lambda: 3, hand_back=hand_back)
    tasks = [await granted(gateway) for _ in range(3)]
    for task, alone in zip(tasks, (True, True, False), strict=True):
        task.alone = alone
        attempts.hold(Attempt(task, workshop))
    await eventually(lambda: len(handed_back) == 2)
    assert (len(attempts), attempts.free_slots, adapter.evaluated) == (3, 0, [])

    handing_back.set()

    assert (await gateway.result_of(tasks[0].generation_id)).HasField("success")
    assert [ref.generation_id for ref in handed_back] == [task.generation_id for task in tasks[1:]]
    await attempts.drain(within_seconds=WAIT_SECONDS)
    assert len(adapter.evaluated) == tasks[0].spec.steps


async def test_one_that_is_to_be_alone_waits_until_every_claim_is_answered(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway
) -> None:
    adapter = ScriptedAdapter()
    attempts = Attempts(slots=lambda: 2, hand_back=AsyncMock())
    alone = await granted(gateway)
    alone.alone = True
    attempts.reserve()
    attempts.hold(Attempt(alone, await make_workshop(adapter)))
    await attempts.drain(within_seconds=0.1)
    assert adapter.evaluated == []

    attempts.unreserve()

    assert (await gateway.result_of(alone.generation_id)).HasField("success")
    await attempts.drain(within_seconds=WAIT_SECONDS)


async def test_one_that_waits_to_be_alone_can_be_dropped(
    make_workshop: MakeWorkshop, store: MemoryStore, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    store.open.clear()
    workshop = await make_workshop(ScriptedAdapter())
    attempts = Attempts(slots=lambda: 1, hand_back=AsyncMock())
    other, alone = await granted(gateway), await granted(gateway)
    alone.alone = True
    for task in (other, alone):
        attempts.hold(Attempt(task, workshop))
    await gateway.until(lambda: uploading(gateway, other))
    attempts.drop(alone.generation_id, reason="test")
    store.open.set()
    await attempts.drain(within_seconds=WAIT_SECONDS)
    assert not gateway.results[alone.generation_id]
    assert measured(registry, "easel_attempts_total", model=MODEL, outcome="dropped") == 1


async def test_a_newer_attempt_that_is_to_be_alone_replaces_the_older(
    make_workshop: MakeWorkshop, gateway: ScriptedGateway
) -> None:
    gate = Gate()
    workshop = await make_workshop(ScriptedAdapter(lambda _prompt, _step: gate()))
    attempts = Attempts(slots=lambda: 1, hand_back=AsyncMock())
    older = await granted(gateway)
    older.alone = True
    newer = Task()
    newer.CopyFrom(older)
    newer.attempt = 2
    attempts.hold(Attempt(older, workshop))
    await asyncio.to_thread(gate.reached.wait)
    attempts.hold(Attempt(newer, workshop))
    gate.open()
    assert (await gateway.result_of(older.generation_id)).attempt == 2
    await attempts.drain(within_seconds=WAIT_SECONDS)

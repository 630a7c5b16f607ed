"""The worker as a process, on real NATS and S3, with a gateway that does as it is told."""

import asyncio
import io
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx2
import pytest
from minio import Minio
from PIL import Image
from pydantic import SecretStr

from easel import objects
from easel.embedded.nats import Nats
from easel.embedded.s3 import S3
from easel.settings import Settings
from easel.v1.generation_pb2 import GenerationSpec, Phase, PreviewSpec
from easel.worker.v1.task_pb2 import AttemptRef
from tests import scripted
from tests.scraping import scrape
from tests.unit.inference.conftest import MODEL, bus, connect, gateway, nats, postcard_folder, s3
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway, spec

__all__ = ["bus", "connect", "gateway", "nats", "postcard_folder", "s3"]  # fixtures

Launch = Callable[..., Awaitable[Process]]
#: A drawing of this many steps outlasts every test.
LONG = 900


@pytest.fixture
async def launch(nats: Nats, s3: S3, postcard_folder: Path, tmp_path: Path) -> AsyncIterator[Launch]:
    """Launch workers, and kill what is left of them after the test."""
    async with AsyncExitStack() as launched:

        async def launch(
            *, program: tuple[str, ...] = ("-m", "inference"), stderr: int | None = None, **settings: object
        ) -> Process:
            environment = {
                "EASEL_NATS_URL": nats.url("worker"),
                "EASEL_S3_ENDPOINT": s3.endpoint,
                "EASEL_S3_ACCESS_KEY": s3.access_key,
                "EASEL_S3_SECRET_KEY": s3.secret_key,
                "EASEL_MODEL": str(postcard_folder),
                "EASEL_MODEL_NAME": MODEL,
                "EASEL_RENEW_SECONDS": "0.2",
                "EASEL_METRICS_LISTEN": "",
                "EASEL_THREADS": "1",
                **scripted.ENVIRONMENT,
                **{f"EASEL_{name.upper()}": str(value) for name, value in settings.items()},
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *program,
                env={**os.environ, **environment},
                stderr=stderr,
            )
            launched.push_async_callback(_kill, process)
            return process

        yield launch


@pytest.fixture
def launch_scripted(launch: Launch) -> Launch:
    """The same, where it does not matter what is drawn: such a worker starts in a second."""
    return partial(launch, program=("-m", "tests.scripted"))


@pytest.fixture
def client(s3: S3) -> Minio:
    settings = Settings(s3_access_key=s3.access_key, s3_secret_key=SecretStr(s3.secret_key))
    return objects.connect(settings, endpoint=s3.endpoint)


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def until_ready(gateway: ScriptedGateway) -> None:
    before = len(gateway.renewals)
    await gateway.until(lambda: len(gateway.renewals) > before)


async def until_drawing(gateway: ScriptedGateway, generation_id: str, *, step: int = 1) -> None:
    await gateway.until(lambda: any(one.progress.step >= step for one in gateway.reports[generation_id]))


async def ended(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), WAIT_SECONDS)


def drawing(**given: object) -> GenerationSpec:
    return spec(model=MODEL, **given)


def scripted_drawing(**given: object) -> GenerationSpec:
    return drawing(prompt="step=0.05", **given)


async def test_it_draws_what_is_queued_and_stops_when_told_to(
    launch: Launch, gateway: ScriptedGateway, client: Minio
) -> None:
    worker = await launch()
    await until_ready(gateway)
    generation_id = await gateway.queue(drawing(steps=20, width=128, height=128))

    result = await gateway.result_of(generation_id)
    await gateway.until_no_hint_is_left()
    worker.send_signal(signal.SIGTERM)

    assert await ended(worker) == 0
    (stored,) = result.success.images
    assert client.stat_object("easel", stored.object_key).size == stored.image.size_bytes
    steps = [one.progress.step for one in gateway.reports[generation_id]]
    assert steps == sorted(steps)
    # Steps that come in one moment are told as one.
    assert (steps[0], steps[-1]) == (0, 20)
    assert len(set(steps)) > 2
    assert gateway.renewals[0].models[0].name == MODEL
    assert [release.leaving for release in gateway.releases] == [True]


async def test_it_shows_what_it_draws_and_stores_nothing_of_that(
    launch: Launch, gateway: ScriptedGateway, client: Minio
) -> None:
    await launch()
    await until_ready(gateway)
    generation_id = await gateway.queue(
        drawing(steps=40, width=128, height=96, image_count=2, preview=PreviewSpec(every_steps=2))
    )

    result = await gateway.result_of(generation_id)

    assert gateway.renewals[-1].models[0].previews
    shown = [report for report in gateway.reports[generation_id] if report.HasField("preview")]
    assert len(shown) > 1
    for report in shown:
        preview, progress = report.preview, report.progress
        assert preview.attempt == progress.attempt == 1
        assert preview.image_index in (0, 1)
        assert 2 <= preview.step < 80
        assert preview.step <= progress.step
        assert preview.content_type == "image/jpeg"
        picture = Image.open(io.BytesIO(preview.data))
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
    prefix = gateway.tasks[generation_id].object_prefix
    stored = [str(one.object_name) for one in client.list_objects("easel", prefix=prefix, recursive=True)]
    assert stored == [image.object_key for image in result.success.images] == [f"{prefix}0.png", f"{prefix}1.png"]


async def test_every_step_is_told_and_nothing_shown_without_the_wish(
    launch_scripted: Launch, gateway: ScriptedGateway
) -> None:
    await launch_scripted()
    await until_ready(gateway)
    generation_id = await gateway.queue(drawing(prompt="step=0.2", steps=20))

    await gateway.result_of(generation_id)

    assert {report.progress.step for report in gateway.reports[generation_id]} == set(range(21))

    assert not any(report.HasField("preview") for report in gateway.reports[generation_id])


async def metrics_url(worker: Process) -> str:
    """Read off its log where a worker shows its metrics."""
    assert worker.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS):
        while line := await worker.stderr.readline():
            if found := re.search(rb"metrics on port (\d+)", line):
                return f"http://127.0.0.1:{int(found[1])}/metrics"
    raise AssertionError("the worker ended")


async def test_it_shows_what_it_measures(launch: Launch, gateway: ScriptedGateway, client: Minio) -> None:
    url = await metrics_url(await launch(metrics_listen="127.0.0.1:0", slots=1, stderr=PIPE))
    await until_ready(gateway)
    before = await scrape(url)
    drawn = await gateway.queue(drawing(steps=30, prompt="a secret castle", preview=PreviewSpec(every_steps=2)))
    (stored,) = (await gateway.result_of(drawn)).success.images
    held = await gateway.queue(drawing(steps=LONG))
    await until_drawing(gateway, held)
    async with asyncio.timeout(WAIT_SECONDS):
        while (during := await scrape(url)).value("easel_slots_busy") != 1:  # noqa: ASYNC110  # asked, not told
            await asyncio.sleep(0.05)
    await gateway.cancel(held)
    await gateway.until_no_hint_is_left()

    assert [before.value(f"easel_{name}") for name in ("slots", "slots_busy", "bus_connected")] == [1, 0, 1]
    assert before.has("easel_steps_total")
    assert before.value("easel_steps_total") == 0
    assert during.value("easel_attempts_total", model=MODEL, outcome="succeeded") == 1
    assert during.value("easel_worker_claims_total", answer="GRANTED") == 2
    assert during.value("easel_steps_total", model=MODEL) > 30
    assert during.value("easel_step_seconds_count", model=MODEL) == during.value("easel_batch_rows_count", model=MODEL)
    assert 0 < during.value("easel_phase_seconds_sum", model=MODEL, phase="denoising") < WAIT_SECONDS
    assert during.value("easel_uploads_total", outcome="stored") == during.value("easel_upload_seconds_count") == 1
    assert during.value("easel_upload_bytes_total") == stored.image.size_bytes
    assert during.value("easel_previews_total", outcome="sent") >= 1
    assert during.value("easel_build_info", service="worker") == 1
    # Those of the warm-up are not counted; here each batch is of one picture with guidance.
    assert during.value("easel_batch_rows_count", model=MODEL) >= during.value("easel_steps_total", model=MODEL)
    assert 0 < during.value("easel_device_busy_seconds_total", model=MODEL, work="denoising") < WAIT_SECONDS
    assert during.value("easel_embedding_cache_lookups_total", model=MODEL, outcome="miss") > 0
    assert 0 < during.value("easel_device_memory_used_bytes") < during.value("easel_device_memory_bytes")
    assert "secret" not in during.text


async def test_probes_are_told_what_it_lacks(launch_scripted: Launch, gateway: ScriptedGateway, nats: Nats) -> None:
    await nats.stop()
    worker = await launch_scripted(metrics_listen="127.0.0.1:0", stderr=PIPE)
    url = (await metrics_url(worker)).removesuffix("/metrics")

    async def until_told(path: str, text: str) -> int:
        async with asyncio.timeout(WAIT_SECONDS), httpx2.AsyncClient(base_url=url) as client:
            while (answer := await client.get(path)).text != text:  # noqa: ASYNC110  # asked, not told
                await asyncio.sleep(0.05)
        return answer.status_code

    drawable = "ok model: ok\nok device: ok\n"
    assert (
        await until_told(
            "/readyz",
            f"{drawable}no NATS: not connected\nok bucket: ok\nno gateway: not yet\nno queue: not there\n",
        )
        == 503
    )
    assert await until_told("/livez", "ok event loop: ok\nok device: ok\n") == 200
    await nats.start()
    await gateway.until_connected()
    await gateway.make_streams()
    await until_ready(gateway)
    served = f"{drawable}ok NATS: ok\nok bucket: ok\nok gateway: ok\nok queue: ok\n"
    assert await until_told("/readyz", served) == 200
    await gateway.delete_consumer()
    assert await until_told("/readyz", served.replace("ok queue: ok", "no queue: not there")) == 503
    await gateway.make_consumer()
    assert await until_told("/readyz", served) == 200
    held = await gateway.queue(scripted_drawing(steps=LONG))
    await until_drawing(gateway, held)
    worker.send_signal(signal.SIGTERM)
    assert await until_told("/readyz", f"{served}no stopping: it is\n") == 503
    assert await until_told("/livez", "ok event loop: ok\nok device: ok\n") == 200
    worker.send_signal(signal.SIGKILL)


async def test_one_request_follows_the_other_without_a_renewal_between(
    launch_scripted: Launch, gateway: ScriptedGateway
) -> None:
    await launch_scripted(renew_seconds=300, slots=1)
    await until_ready(gateway)

    queued = [await gateway.queue(scripted_drawing(seed=seed)) for seed in range(5)]

    results = [await gateway.result_of(generation_id) for generation_id in queued]
    assert all(result.HasField("success") for result in results)
    assert len(gateway.renewals) == 1


async def test_it_finishes_what_it_draws_before_it_stops(launch_scripted: Launch, gateway: ScriptedGateway) -> None:
    worker = await launch_scripted(slots=1)
    await until_ready(gateway)
    drawn, waiting = await gateway.queue(scripted_drawing(steps=60)), await gateway.queue(scripted_drawing())
    await until_drawing(gateway, drawn)

    worker.send_signal(signal.SIGTERM)

    assert await ended(worker) == 0
    assert gateway.results[drawn][0].HasField("success")
    assert [list(release.attempts) for release in gateway.releases] == [[]]
    assert not gateway.results[waiting]
    assert await gateway.hints_left() == 1


async def test_it_hands_back_what_outlasts_its_grace(launch_scripted: Launch, gateway: ScriptedGateway) -> None:
    worker = await launch_scripted(drain_grace_seconds=0.1)
    await until_ready(gateway)
    generation_id = await gateway.queue(scripted_drawing(steps=LONG))
    await until_drawing(gateway, generation_id)

    worker.send_signal(signal.SIGINT)

    assert await ended(worker) == 0
    (release,) = gateway.releases
    assert [(ref.generation_id, ref.attempt) for ref in release.attempts] == [(generation_id, 1)]
    assert release.leaving
    assert not gateway.results[generation_id]


async def test_a_second_signal_ends_it_at_once(launch_scripted: Launch, gateway: ScriptedGateway) -> None:
    worker = await launch_scripted(drain_grace_seconds=600)
    await until_ready(gateway)
    generation_id = await gateway.queue(scripted_drawing(steps=LONG))
    await until_drawing(gateway, generation_id)

    worker.send_signal(signal.SIGTERM)
    renewals = len(gateway.renewals)
    await gateway.until(lambda: len(gateway.renewals) > renewals + 3)  # it still renews what it finishes
    worker.send_signal(signal.SIGTERM)

    assert await ended(worker) == -signal.SIGTERM


@pytest.mark.parametrize("by_renewal", [True, False])
async def test_a_cancelled_drawing_stops_and_the_next_begins(
    launch_scripted: Launch, gateway: ScriptedGateway, by_renewal: bool
) -> None:
    await launch_scripted(renew_seconds=0.1 if by_renewal else 300)
    await until_ready(gateway)
    cancelled = await gateway.queue(scripted_drawing(steps=LONG))
    await until_drawing(gateway, cancelled)

    if by_renewal:
        gateway.dropped = [AttemptRef(generation_id=cancelled, attempt=1)]
    else:
        await gateway.cancel(cancelled)
    following = await gateway.queue(scripted_drawing())

    assert (await gateway.result_of(following)).HasField("success")
    assert not gateway.results[cancelled]
    assert gateway.reports[cancelled][-1].progress.step < LONG


async def test_nats_wiped_in_mid_drawing_costs_nothing(
    launch_scripted: Launch, gateway: ScriptedGateway, nats: Nats
) -> None:
    await launch_scripted()
    await until_ready(gateway)
    generation_id = await gateway.queue(scripted_drawing(steps=100))
    await until_drawing(gateway, generation_id)

    await nats.wipe()
    await gateway.until_connected()
    await gateway.make_streams()
    following = await gateway.queue(scripted_drawing())

    assert (await gateway.result_of(generation_id)).attempt == 1
    assert (await gateway.result_of(following)).HasField("success")
    assert len(gateway.claims) == 2


async def test_s3_restarted_in_mid_drawing_costs_nothing(
    launch_scripted: Launch, gateway: ScriptedGateway, s3: S3, client: Minio
) -> None:
    await launch_scripted()
    await until_ready(gateway)
    generation_id = await gateway.queue(scripted_drawing(steps=20))
    await until_drawing(gateway, generation_id)

    await s3.stop()
    await gateway.until(lambda: gateway.reports[generation_id][-1].progress.phase == Phase.PHASE_UPLOADING)
    await s3.start()

    (stored,) = (await gateway.result_of(generation_id)).success.images
    assert client.stat_object("easel", stored.object_key).size == stored.image.size_bytes


async def test_it_waits_for_everything_that_is_not_there_yet(
    launch_scripted: Launch, gateway: ScriptedGateway, nats: Nats, s3: S3
) -> None:
    await gateway.bus.stop_listening()
    await gateway.delete_consumer()
    await s3.stop()
    await nats.stop()
    worker = await launch_scripted()

    await nats.start()
    await s3.start()
    await gateway.until_connected()
    await gateway.listen()
    await until_ready(gateway)
    await gateway.make_consumer()
    generation_id = await gateway.queue(scripted_drawing())

    assert (await gateway.result_of(generation_id)).HasField("success")
    assert worker.returncode is None


async def test_it_can_be_stopped_before_it_is_ready(launch: Launch, nats: Nats) -> None:
    await nats.stop()
    try:
        worker = await launch(stderr=PIPE)
        assert worker.stderr is not None
        assert b"action=start " in await worker.stderr.readline()

        worker.send_signal(signal.SIGTERM)

        assert await ended(worker) == 0
    finally:
        await nats.start()


#: The worker, with a defect that shows once it holds something.
DEFECTIVE = """
from inference import __main__ as worker
from inference.attempts import Attempts

def fail(self):
    if self._held:
        raise OverflowError("int too large to convert to float")
    return free_slots(self)

free_slots = Attempts.free_slots.fget
Attempts.free_slots = property(fail)
worker.end(worker.main([]))
"""


async def test_a_defect_ends_it_after_what_it_holds(launch: Launch, gateway: ScriptedGateway) -> None:
    worker = await launch(program=("-c", DEFECTIVE), stderr=PIPE, renew_seconds=300, slots=1)
    await until_ready(gateway)

    generation_id = await gateway.queue(drawing(steps=20))

    assert worker.stderr is not None
    log = (await worker.stderr.read()).decode()
    assert await ended(worker) == 1
    assert log.count("action=defect") == 1
    assert log.count("OverflowError: int too large to convert to float") == 1
    assert (await gateway.result_of(generation_id)).HasField("success")
    assert [list(release.attempts) for release in gateway.releases] == [[]]


async def test_a_taken_port_for_its_metrics_ends_it_with_one_line(launch: Launch, s3: S3) -> None:
    taken = s3.endpoint.removeprefix("http://")
    worker = await launch(metrics_listen=taken, log_level="ERROR", stderr=PIPE)

    assert worker.stderr is not None
    (line,) = (await worker.stderr.read()).decode().splitlines()
    assert line == f"EASEL_METRICS_LISTEN: cannot listen on {taken}: Address already in use"
    assert await ended(worker) == 2


async def test_a_missing_model_ends_it_with_one_line(launch: Launch, tmp_path: Path) -> None:
    worker = await launch(model=tmp_path / "nowhere", log_level="ERROR", stderr=PIPE)

    assert worker.stderr is not None
    (line,) = (await worker.stderr.read()).decode().splitlines()
    assert line.startswith("EASEL_MODEL: there is no folder")
    assert await ended(worker) == 2

"""Previews on their way out: a real NATS, and an encoder that the test holds back."""

import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
from loguru import logger
from PIL import Image
from prometheus_client import CollectorRegistry

from easel.bus import Bus
from easel.v1.generation_pb2 import Phase
from easel.worker.v1.progress_pb2 import ProgressReport
from inference import previews
from inference.engine.engine import Pixels, Previewed
from inference.metrics import Metrics
from inference.pictures import Encoder, PictureFile
from inference.previews import Previews
from inference.progress import Estimate, ProgressReporter, SmoothedMean
from tests.unit.inference.conftest import MODEL
from tests.unit.inference.scripted_gateway import WAIT_SECONDS, ScriptedGateway

ID = "generation-1"


class HeldEncoder(Encoder):
    """Encodes when the test says so, and fails for black pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.open = asyncio.Event()

    async def encode_preview(self, pixels: Pixels) -> PictureFile:
        self.asked.append(int(pixels[0, 0, 0]))
        await self.open.wait()
        if not pixels.any():
            raise ValueError("black")
        return await super().encode_preview(pixels)


@pytest.fixture
def encoder() -> HeldEncoder:
    return HeldEncoder()


@pytest.fixture
def reporter(bus: Bus, gateway: ScriptedGateway) -> ProgressReporter:
    estimate = Estimate(pictures=1, picture_seconds=SmoothedMean())
    return ProgressReporter(bus, generation_id=ID, attempt=3, claim_id="c", steps=20, estimate=estimate)


@pytest.fixture
async def shown(
    encoder: HeldEncoder, reporter: ProgressReporter, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Previews]:
    monkeypatch.setattr(previews, "INTERVAL_SECONDS", 0)
    shown = Previews(encoder, reporter, metrics=metrics)
    yield shown
    shown.close()
    encoder.close()


def preview(step: int, *, colour: int | None = None) -> Previewed:
    pixels = np.full((16, 24, 3), step if colour is None else colour, dtype=np.uint8)
    return Previewed(image_index=1, step=step, pixels=pixels)


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    values = {
        name: registry.get_sample_value("easel_previews_total", {"model": MODEL, "outcome": name})
        for name in ("sent", "replaced", "dropped", "failed")
    }
    return {name: value for name, value in values.items() if value}


async def reports(gateway: ScriptedGateway, count: int) -> list[ProgressReport]:
    await gateway.until(lambda: len(gateway.reports[ID]) >= count)
    return gateway.reports[ID]


async def test_a_preview_is_a_report_of_its_own_with_the_progress_of_now(
    shown: Previews, encoder: HeldEncoder, reporter: ProgressReporter, gateway: ScriptedGateway
) -> None:
    shown.offer(preview(5))
    await reporter.enter(Phase.PHASE_DECODING)
    encoder.open.set()

    decoding, report = await reports(gateway, 2)
    assert not decoding.HasField("preview")
    assert (decoding.sequence, report.sequence) == (1, 2)
    assert report.progress == decoding.progress
    assert (report.preview.attempt, report.preview.image_index, report.preview.step) == (3, 1, 5)
    assert report.preview.content_type == "image/jpeg"
    assert Image.open(io.BytesIO(report.preview.data)).size == (24, 16)


async def test_the_newest_wins_while_another_is_encoded(
    shown: Previews, encoder: HeldEncoder, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    shown.offer(preview(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert encoder.asked == [1]
    for step in range(2, 10):
        shown.offer(preview(step))
    encoder.open.set()

    assert [report.preview.step for report in await reports(gateway, 2)] == [1, 9]
    assert encoder.asked == [1, 9]
    assert outcomes(registry) == {"sent": 2, "replaced": 7}


async def test_they_keep_their_distance_and_the_newest_is_not_lost_to_it(
    shown: Previews, encoder: HeldEncoder, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "INTERVAL_SECONDS", 0.05)
    encoder.open.set()
    started = asyncio.get_running_loop().time()

    for step in range(1, 5):
        shown.offer(preview(step))
        await reports(gateway, step)

    assert [report.preview.step for report in gateway.reports[ID]] == [1, 2, 3, 4]
    assert asyncio.get_running_loop().time() - started > 0.14


async def test_what_is_not_sent_when_it_is_over_is_dropped(
    shown: Previews,
    encoder: HeldEncoder,
    reporter: ProgressReporter,
    gateway: ScriptedGateway,
    registry: CollectorRegistry,
) -> None:
    shown.offer(preview(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    shown.offer(preview(2))
    shown.close()
    encoder.open.set()
    assert shown._sending is not None
    await asyncio.wait([shown._sending], timeout=WAIT_SECONDS)
    await reporter.enter(Phase.PHASE_DECODING)

    (report,) = await reports(gateway, 1)
    assert not report.HasField("preview")
    shown.close()  # once more does no harm
    assert outcomes(registry) == {"dropped": 2}


async def test_one_that_cannot_be_encoded_is_logged_and_the_next_one_is_sent(
    shown: Previews, encoder: HeldEncoder, gateway: ScriptedGateway, registry: CollectorRegistry
) -> None:
    encoder.open.set()
    actions: list[str] = []
    sink = logger.add(lambda line: actions.append(line.record["extra"]["action"]), level="ERROR")
    shown.offer(preview(1, colour=0))
    assert shown._sending is not None
    await shown._sending
    logger.remove(sink)
    shown.offer(preview(2))

    assert [report.preview.step for report in await reports(gateway, 1)] == [2]
    assert actions == ["preview_failed"]
    assert outcomes(registry) == {"failed": 1, "sent": 1}

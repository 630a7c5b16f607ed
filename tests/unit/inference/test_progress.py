import pytest

from easel.bus import Bus
from easel.v1.generation_pb2 import Phase
from easel.worker.v1.progress_pb2 import ProgressReport
from inference import progress
from inference.engine.engine import Stepped
from inference.progress import Estimate, ProgressReporter, SmoothedMean
from tests.unit.inference.scripted_gateway import ScriptedGateway


@pytest.fixture
def picture_seconds() -> SmoothedMean:
    return SmoothedMean()


@pytest.fixture
def reporter(bus: Bus, picture_seconds: SmoothedMean) -> ProgressReporter:
    return ProgressReporter(
        bus,
        generation_id="generation-1",
        attempt=3,
        claim_id="claim-1",
        steps=4,
        estimate=Estimate(pictures=2, picture_seconds=picture_seconds),
    )


async def reports(gateway: ScriptedGateway, count: int) -> list[ProgressReport]:
    await gateway.until(lambda: len(gateway.reports["generation-1"]) >= count)
    return gateway.reports["generation-1"]


async def test_each_report_tells_all_there_is_to_tell(
    reporter: ProgressReporter, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_SECONDS", 0)

    await reporter.enter(Phase.PHASE_WAITING)
    await reporter.enter(Phase.PHASE_DENOISING)
    await reporter.stepped(Stepped(step=1, steps=4, seconds=1.0))
    await reporter.stepped(Stepped(step=2, steps=4, seconds=2.0))
    await reporter.enter(Phase.PHASE_DECODING)

    waiting, denoising, first, second, decoding = await reports(gateway, 5)
    assert [one.sequence for one in gateway.reports["generation-1"]] == [1, 2, 3, 4, 5]
    assert {one.progress.attempt for one in gateway.reports["generation-1"]} == {3}
    assert {one.progress.steps for one in gateway.reports["generation-1"]} == {4}
    assert waiting.progress.phase == Phase.PHASE_WAITING
    assert not waiting.progress.HasField("step_seconds")
    assert not denoising.progress.HasField("eta")
    assert (first.progress.step, first.progress.step_seconds) == (1, 1.0)
    assert first.progress.eta.ToTimedelta().total_seconds() == 3.0
    assert second.progress.step_seconds == pytest.approx(1.3)
    assert second.progress.eta.ToTimedelta().total_seconds() == pytest.approx(2.6)
    assert (decoding.progress.phase, decoding.progress.step) == (Phase.PHASE_DECODING, 2)
    assert not decoding.progress.HasField("eta")


async def test_the_estimate_counts_what_comes_after_the_last_step(
    reporter: ProgressReporter,
    picture_seconds: SmoothedMean,
    gateway: ScriptedGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_SECONDS", 0)
    picture_seconds.add(10.0)

    await reporter.stepped(Stepped(step=3, steps=4, seconds=1.0))
    await reporter.stepped(Stepped(step=4, steps=4, seconds=1.0))

    etas = [one.progress.eta.ToTimedelta().total_seconds() for one in await reports(gateway, 2)]
    assert etas == [21.0, 20.0]


def test_a_smoothed_mean_begins_with_its_first_value_and_follows_the_others() -> None:
    mean = SmoothedMean()
    assert mean.value == 0

    mean.add(10)
    assert mean.value == 10
    mean.add(0)
    assert mean.value == pytest.approx(7)


async def test_steps_too_fast_to_see_are_left_out_and_the_last_is_told_with_the_next_phase(
    reporter: ProgressReporter, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_SECONDS", 60)

    await reporter.enter(Phase.PHASE_DENOISING)
    for step in range(1, 5):
        await reporter.stepped(Stepped(step=step, steps=4, seconds=0.001))
    await reporter.enter(Phase.PHASE_DECODING)

    told = [(one.sequence, one.progress.phase, one.progress.step) for one in await reports(gateway, 2)]
    assert told == [(1, Phase.PHASE_DENOISING, 0), (2, Phase.PHASE_DECODING, 4)]

"""What becomes of requests is counted by what their clients saw."""

import asyncio
import math
from collections.abc import Callable

import pytest

from bench import traces
from bench.peers import __main__ as peers
from bench.peers.contenders import Contender
from inference.engine.engine import DrawRequest


class Scripted:
    """A service whose requests end by their number: every fourth fails, every other fourth never ends."""

    async def draw(self, job_id: str, request: DrawRequest, on_progress: Callable[[], None]) -> None:
        del job_id
        on_progress()
        if request.seed % 4 == 1:
            raise ConnectionError("the service is gone")
        if request.seed % 4 == 3:
            await asyncio.Event().wait()


class Worker:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kill(self) -> None:
        self.told.append("kill")

    async def start(self) -> None:
        self.told.append("start")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(peers, "STARTED_AFTER_SECONDS", 0.0)


async def play(count: int) -> list[peers.Fate]:
    contender = Contender(front=Scripted(), worker=Worker(), processes=[])
    return await peers._play(contender, traces.make("C", count=count, seed=1, size_pixels=64), per_second=1e6)


async def test_what_fails_and_what_never_ends_is_lost() -> None:
    fates = await play(8)
    outcome = peers._outcome("scripted", full=fates, calm=fates, broken=fates, memory_mib=1.0)
    assert (outcome.lost, outcome.asked) == (4, 8)
    assert all(fate.first_progress is not None for fate in fates)
    # Four pictures, and the service was not through before patience ended.
    assert 0 < outcome.pictures_per_second <= 4 / peers.PATIENCE_SECONDS
    assert 0 < outcome.first_progress_seconds <= outcome.latency_seconds["p99"]


async def test_the_worker_is_killed_and_started_again() -> None:
    worker = Worker()
    await peers._kill(worker, after_seconds=0.0)
    assert worker.told == ["kill", "start"]


def outcome(name: str, **different: float) -> peers.Outcome:
    return peers.Outcome(
        contender=name,
        pictures_per_second=different.get("pictures_per_second", 2.0),
        latency_seconds={"p50": different.get("p50", 1.0), "p99": 2.0},
        first_progress_seconds=0.5,
        memory_mib=100.0,
        lost=int(different.get("lost", 0)),
        asked=10,
    )


def test_easel_is_held_to_the_best_of_the_others_in_each_column() -> None:
    report = peers.summarise(
        [outcome("Easel", p50=0.8), outcome("slow", pictures_per_second=1.0, p50=0.5, lost=1), outcome("other")]
    )
    values = {target.name: target.value for target in report.targets}
    assert values["pictures a second, over the best other"] == 1.0
    assert values["p50 over the best other's"] == pytest.approx(1.6)
    assert values["lost when the worker is killed"] == 0
    assert not math.isnan(sum(values.values()))

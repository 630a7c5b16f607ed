"""Work that is done again and again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway import loops
from gateway.errors import DatabaseUnavailable
from gateway.loops import Loop


@asynccontextmanager
async def running(step: Callable[[], Awaitable[None]], *, interval_seconds: float = 3600) -> AsyncIterator[Loop]:
    loop = Loop("test", step, interval_seconds=interval_seconds)
    task = asyncio.create_task(loop.run())
    yield loop
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


class Counter:
    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.steps: asyncio.Queue[int] = asyncio.Queue()
        self._count = 0

    async def __call__(self) -> None:
        self._count += 1
        self.steps.put_nowait(self._count)
        if self._failures:
            raise self._failures.pop(0)


async def test_runs_at_once_and_again_on_a_nudge() -> None:
    counter = Counter()
    async with running(counter) as loop:
        assert await counter.steps.get() == 1
        loop.nudge()
        assert await counter.steps.get() == 2


async def test_runs_again_after_the_interval() -> None:
    counter = Counter()
    async with running(counter, interval_seconds=0.001):
        assert [await counter.steps.get() for _ in range(3)] == [1, 2, 3]


async def test_a_nudge_during_a_step_is_not_lost() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    counter = Counter()

    async def step() -> None:
        await counter()
        started.set()
        await go_on.wait()

    async with running(step) as loop:
        await started.wait()
        loop.nudge()
        go_on.set()
        assert [await counter.steps.get() for _ in range(2)] == [1, 2]


async def test_stops_after_the_step_in_hand() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    counter = Counter()

    async def step() -> None:
        started.set()
        await go_on.wait()
        await counter()

    loop = Loop("test", step, interval_seconds=0)
    task = asyncio.create_task(loop.run())
    await started.wait()
    loop.stop()
    go_on.set()
    await task
    assert counter.steps.qsize() == 1


async def test_stops_while_it_waits() -> None:
    counter = Counter()
    loop = Loop("test", counter, interval_seconds=3600)
    task = asyncio.create_task(loop.run())
    await counter.steps.get()
    loop.stop()
    await task


@pytest.mark.parametrize("failure", [DatabaseUnavailable(), ValueError("a defect")])
async def test_goes_on_after_a_failure(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "OUTAGE_SECONDS", 0.001)
    counter = Counter(failure, failure)
    async with running(counter, interval_seconds=0.001):
        assert [await counter.steps.get() for _ in range(3)] == [1, 2, 3]


async def test_nudges_in_the_pause_after_a_step_come_to_one_step() -> None:
    counter = Counter()
    loop = Loop("test", counter, interval_seconds=3600, pause_seconds=0.05)
    task = asyncio.create_task(loop.run())
    assert await counter.steps.get() == 1
    for _ in range(3):
        loop.nudge()
        await asyncio.sleep(0)
    assert await counter.steps.get() == 2
    loop.stop()
    await task
    assert counter.steps.empty()

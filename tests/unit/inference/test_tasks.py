"""Ending tasks for certain."""

import asyncio

import pytest

from inference import tasks


async def test_a_task_that_loses_a_cancel_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    cancels = 0

    async def stubborn() -> None:
        nonlocal cancels
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels += 1
                if cancels > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await tasks.cancel_all([task])
    assert task.cancelled()
    assert cancels == 2


async def test_nothing_to_end() -> None:
    await tasks.cancel_all([])

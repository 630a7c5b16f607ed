"""The watchers' mailboxes."""

import asyncio
from unittest.mock import AsyncMock

import pytest

from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.errors import ShuttingDown
from gateway.hub import Hub, Mailbox


async def test_a_slow_reader_gets_the_latest_progress_only() -> None:
    mailbox = Mailbox()
    for sequence in (1, 2, 3):
        mailbox.receive(ProgressReport(sequence=sequence))
    report = await mailbox.wait()
    assert report is not None
    assert report.sequence == 3


async def test_hears_of_later_revisions_only() -> None:
    mailbox = Mailbox()
    mailbox.hear_of(2)
    assert await mailbox.wait() is None
    mailbox.hear_of(1)
    assert mailbox.revision == 2
    waiting = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.hear_of(3)
    await waiting


async def test_a_closed_hub_ends_watchers_present_and_to_come() -> None:
    hub = Hub(AsyncMock(), AsyncMock())
    with hub.mailbox("1") as mailbox:
        hub.close()
        with pytest.raises(ShuttingDown):
            await mailbox.wait()
    with pytest.raises(ShuttingDown), hub.mailbox("2"):
        pass


async def test_looks_up_what_is_watched_and_nothing_else() -> None:
    generations = AsyncMock()
    generations.get_revisions.return_value = {"1": 5}
    hub = Hub(AsyncMock(), generations)
    await hub.recheck()
    generations.get_revisions.assert_not_called()
    with hub.mailbox("1") as mailbox:
        await hub.recheck()
        assert mailbox.revision == 5
    await hub.recheck()
    generations.get_revisions.assert_called_once_with(["1"])

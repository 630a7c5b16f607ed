"""The watchers' mailboxes."""

import asyncio
import uuid
from contextlib import ExitStack
from unittest.mock import AsyncMock, Mock

import pytest

from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.errors import ShuttingDown
from gateway.hub import Hub, Mailbox
from gateway.record.generation import Revision, State


async def test_a_slow_reader_gets_the_latest_progress_only() -> None:
    mailbox = Mailbox()
    for sequence in (1, 2, 3):
        mailbox.receive(ProgressReport(sequence=sequence))
    (report,) = await mailbox.wait()
    assert report.sequence == 3


def with_preview(report: ProgressReport) -> ProgressReport:
    report.preview.data = b"picture"
    return report


async def test_a_slow_reader_gets_the_latest_preview_too_and_no_more() -> None:
    mailbox = Mailbox()
    for sequence in range(1, 5):
        mailbox.receive(with_preview(ProgressReport(sequence=sequence)))
    assert [report.sequence for report in await mailbox.wait()] == [4]
    for sequence in range(5, 100):
        report = ProgressReport(sequence=sequence)
        mailbox.receive(with_preview(report) if sequence % 10 == 0 else report)
    preview, latest = await mailbox.wait()
    assert (preview.sequence, preview.HasField("preview")) == (90, True)
    assert (latest.sequence, latest.HasField("preview")) == (99, False)
    mailbox.hear_of(1)
    assert await mailbox.wait() == []


async def test_what_is_late_does_not_replace_what_is_newer() -> None:
    mailbox = Mailbox()
    for attempt, sequence in ((2, 3), (2, 2), (1, 50)):
        report = ProgressReport(sequence=sequence)
        report.progress.attempt = attempt
        mailbox.receive(with_preview(report))
    (report,) = await mailbox.wait()
    assert (report.progress.attempt, report.sequence) == (2, 3)


async def test_a_report_goes_to_those_who_watch_its_generation() -> None:
    hub = Hub(AsyncMock(), AsyncMock())
    watched, other = str(uuid.uuid4()), str(uuid.uuid4())
    report = ProgressReport(generation_id=watched, sequence=1)
    with hub.mailbox(watched) as first, hub.mailbox(watched) as second, hub.mailbox(other) as third:
        await hub._on_progress(Mock(subject=f"easel.progress.{watched}", data=report.SerializeToString()))
        await hub._on_progress(Mock(subject=f"easel.progress.{other}", data=b"\xff"))
        assert [await first.wait(), await second.wait()] == [[report], [report]]
        third.hear_of(1)
        assert await third.wait() == []


async def test_hears_of_later_revisions_only() -> None:
    mailbox = Mailbox()
    mailbox.hear_of(2)
    assert await mailbox.wait() == []
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
    generations.get_revisions.return_value = {"1": Revision(5, State.RUNNING)}
    hub = Hub(AsyncMock(), generations)
    await hub.recheck()
    generations.get_revisions.assert_not_called()
    with hub.mailbox("1") as mailbox:
        await hub.recheck()
        assert mailbox.revision == 5
    await hub.recheck()
    generations.get_revisions.assert_called_once_with(["1"])


async def test_looks_thousands_up_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.hub.RECHECKED_AT_ONCE", 2)
    generations = AsyncMock()
    generations.get_revisions.side_effect = lambda ids: {one: Revision(7, State.RUNNING) for one in ids}
    hub = Hub(AsyncMock(), generations)
    with ExitStack() as stack:
        mailboxes = [stack.enter_context(hub.mailbox(str(number))) for number in range(5)]
        await hub.recheck()
    assert [mailbox.revision for mailbox in mailboxes] == [7] * 5
    assert [len(call.args[0]) for call in generations.get_revisions.call_args_list] == [2, 2, 1]

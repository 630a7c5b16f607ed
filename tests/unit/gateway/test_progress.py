"""Progress on its way to the record."""

import uuid
from unittest.mock import AsyncMock, Mock

import pytest

from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.errors import DatabaseUnavailable
from gateway.progress import ProgressWriter
from gateway.record.attempts import Attempt

ID = str(uuid.uuid4())


def report(sequence: int, *, step: int = 1) -> ProgressReport:
    report = ProgressReport(generation_id=ID, sequence=sequence)
    report.progress.attempt = 1
    report.progress.step = step
    return report


async def receive(writer: ProgressWriter, *reports: ProgressReport) -> None:
    for one in reports:
        await writer._on_message(Mock(data=one.SerializeToString()))


async def test_the_latest_is_written_once() -> None:
    attempts = AsyncMock()
    writer = ProgressWriter(AsyncMock(), attempts)
    await receive(writer, report(1), report(3, step=3), report(2))
    await writer.flush()
    ((_, sequence, progress),) = attempts.save_progress.await_args.args[0]
    assert (sequence, progress["step"]) == (3, 3)
    await writer.flush()
    assert attempts.save_progress.await_args.args[0] == []


async def test_nothing_of_a_preview_is_written_or_kept() -> None:
    attempts = AsyncMock()
    writer = ProgressWriter(AsyncMock(), attempts)
    shown = report(2, step=2)
    shown.preview.attempt = 1
    shown.preview.content_type = "image/jpeg"
    shown.preview.data = b"picture" * 1000
    await receive(writer, report(1), shown)
    ((_, kept),) = writer._latest.values()
    assert kept == shown.progress
    await writer.flush()
    assert attempts.save_progress.await_args.args[0] == [
        (Attempt(generation_id=ID, number=1), 2, {"attempt": 1, "step": 2})
    ]


async def test_what_was_not_written_is_kept_unless_something_newer_came() -> None:
    attempts = AsyncMock()
    attempts.save_progress.side_effect = DatabaseUnavailable
    writer = ProgressWriter(AsyncMock(), attempts)
    await receive(writer, report(1))
    with pytest.raises(DatabaseUnavailable):
        await writer.flush()
    attempts.save_progress.side_effect = None
    await writer.flush()
    assert [sequence for _, sequence, _ in attempts.save_progress.await_args.args[0]] == [1]


async def test_what_cannot_be_read_harms_no_other() -> None:
    attempts = AsyncMock()
    writer = ProgressWriter(AsyncMock(), attempts)
    bad = report(2)
    bad.progress.eta.seconds = 10**15
    await receive(writer, report(1), bad)
    await writer._on_message(Mock(data=b"\xff"))
    await writer.flush()
    assert [sequence for _, sequence, _ in attempts.save_progress.await_args.args[0]] == [1]

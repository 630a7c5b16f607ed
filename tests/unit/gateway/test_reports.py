"""What a gateway takes of workers' reports."""

import uuid
from collections.abc import Callable

import pytest

from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.reports import MAX_PREVIEW_BYTES, read_report

ID = str(uuid.uuid4())


def report() -> ProgressReport:
    report = ProgressReport(generation_id=ID, sequence=4)
    report.progress.attempt = report.preview.attempt = 2
    report.preview.content_type = "image/jpeg"
    report.preview.data = b"picture"
    return report


def test_a_lawful_report_is_taken_as_it_is() -> None:
    for content_type in ("image/jpeg", "image/png", "image/webp"):
        sent = report()
        sent.preview.content_type = content_type
        sent.preview.data = bytes(MAX_PREVIEW_BYTES)
        assert read_report(sent.SerializeToString()) == sent


@pytest.mark.parametrize(
    "spoil",
    [
        lambda preview: setattr(preview, "data", bytes(MAX_PREVIEW_BYTES + 1)),
        lambda preview: setattr(preview, "data", b""),
        lambda preview: setattr(preview, "content_type", "image/svg+xml"),
        lambda preview: setattr(preview, "content_type", ""),
        lambda preview: setattr(preview, "attempt", 1),
        lambda preview: setattr(preview, "attempt", 3),
    ],
)
def test_a_preview_that_may_not_be_shown_is_left_out(spoil: Callable[[object], None]) -> None:
    sent, expected = report(), report()
    spoil(sent.preview)
    expected.ClearField("preview")
    assert read_report(sent.SerializeToString()) == expected


def test_what_is_no_report_is_none() -> None:
    assert read_report(b"\xff") is None
    assert read_report(ProgressReport(generation_id="someone").SerializeToString()) is None
    bad = report()
    bad.progress.eta.seconds = 10**15
    assert read_report(bad.SerializeToString()) is None

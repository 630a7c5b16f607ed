"""Workers' reports of progress, as far as they may be shown to clients."""

import uuid

from google.protobuf.message import DecodeError

from easel.v1.generation_messages_pb2 import Preview
from easel.worker.v1.progress_pb2 import ProgressReport

#: Twice what workers of ours send: no preview of any worker costs a gateway or a watcher more.
MAX_PREVIEW_BYTES = 64 * 1024
PREVIEW_CONTENT_TYPES = ("image/jpeg", "image/png", "image/webp")


def read_report(data: bytes) -> ProgressReport | None:
    """Read a report, or None of what is none: progress is worth no fuss."""
    try:
        return check_report(ProgressReport.FromString(data))
    except DecodeError:
        return None


def check_report(report: ProgressReport) -> ProgressReport | None:
    """Return a report without what may not be shown; None if nothing is left."""
    try:
        report.generation_id = str(uuid.UUID(report.generation_id))
        report.progress.eta.ToJsonString()  # raises where a client could not read it
    except ValueError:
        return None
    if report.HasField("preview") and not _may_be_shown(report.preview, attempt=report.progress.attempt):
        report.ClearField("preview")
    return report


def _may_be_shown(preview: Preview, *, attempt: int) -> bool:
    return (
        preview.attempt == attempt
        and preview.content_type in PREVIEW_CONTENT_TYPES
        and 0 < len(preview.data) <= MAX_PREVIEW_BYTES
    )

"""The one table that maps the errors of the domain to what a gRPC client sees; a test proves it complete."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from easel.v1.error_reason_pb2 import ErrorReason
from gateway import errors

ERROR_DOMAIN = "easel"
#: What goes over the wire as it is.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_CUT = " ..."
RETRY_SOON = timedelta(seconds=1)
RETRY_WHEN_DRAINED = timedelta(seconds=5)

#: Clients refuse trailers of more than 8 KiB, and then show that instead of the error. The message takes a part in the
#: form it has on the wire, percent-encoded; the details take one in base64.
MAX_MESSAGE_BYTES = 2_000
MAX_VIOLATIONS_BYTES = 3_000
MAX_DESCRIPTION_BYTES = 1_000
MAX_FIELDS_BYTES = 500


@dataclass(frozen=True)
class _Row:
    code: grpc.StatusCode
    reason: "ErrorReason.ValueType"
    metadata: Callable[[errors.Error], dict[str, str]] = lambda _: {}
    details: Callable[[errors.Error], list[Message]] = lambda _: []


def _bad_request(error: errors.Error) -> list[Message]:
    assert isinstance(error, errors.InvalidRequest)  # noqa: S101
    bad_request = error_details_pb2.BadRequest()
    for violation in error.violations:
        description = _shortened(violation.description, MAX_DESCRIPTION_BYTES)  # there may be many models to name
        listed = bad_request.field_violations.add(field=violation.field, description=description)
        if bad_request.ByteSize() > MAX_VIOLATIONS_BYTES:
            bad_request.field_violations.remove(listed)
            break
    return [bad_request]


def _conflict(error: errors.Error) -> dict[str, str]:
    assert isinstance(error, errors.RequestIdConflict)  # noqa: S101
    return {"id": error.generation_id, "fields": _shortened(",".join(error.fields), MAX_FIELDS_BYTES)}


def _deleted(error: errors.Error) -> dict[str, str]:
    assert isinstance(error, errors.GenerationDeleted)  # noqa: S101
    return {"id": error.generation_id}


def _state(error: errors.Error) -> dict[str, str]:
    assert isinstance(error, errors.GenerationNotSucceeded | errors.GenerationNotFinal)  # noqa: S101
    return {"state": error.state}


def _retry_after(delay: timedelta) -> Callable[[errors.Error], list[Message]]:
    duration = Duration()
    duration.FromTimedelta(delay)
    return lambda _: [error_details_pb2.RetryInfo(retry_delay=duration)]


TABLE: dict[type[errors.Error], _Row] = {
    errors.InvalidRequest: _Row(
        grpc.StatusCode.INVALID_ARGUMENT, ErrorReason.ERROR_REASON_INVALID_REQUEST, details=_bad_request
    ),
    errors.GenerationNotFound: _Row(grpc.StatusCode.NOT_FOUND, ErrorReason.ERROR_REASON_GENERATION_NOT_FOUND),
    errors.ModelNotFound: _Row(grpc.StatusCode.NOT_FOUND, ErrorReason.ERROR_REASON_MODEL_NOT_FOUND),
    errors.RequestIdConflict: _Row(
        grpc.StatusCode.ALREADY_EXISTS, ErrorReason.ERROR_REASON_REQUEST_ID_CONFLICT, metadata=_conflict
    ),
    errors.GenerationDeleted: _Row(
        grpc.StatusCode.ALREADY_EXISTS, ErrorReason.ERROR_REASON_GENERATION_DELETED, metadata=_deleted
    ),
    errors.GenerationNotFinal: _Row(
        grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_GENERATION_NOT_FINAL, metadata=_state
    ),
    errors.GenerationNotSucceeded: _Row(
        grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_GENERATION_NOT_SUCCEEDED, metadata=_state
    ),
    errors.BacklogFull: _Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_BACKLOG_FULL,
        details=_retry_after(RETRY_WHEN_DRAINED),
    ),
    errors.TooManyCalls: _Row(
        grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_TOO_MANY_CALLS, details=_retry_after(RETRY_SOON)
    ),
    errors.DatabaseUnavailable: _Row(
        grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, details=_retry_after(RETRY_SOON)
    ),
    errors.SlowReader: _Row(
        grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_SLOW_READER, details=_retry_after(RETRY_SOON)
    ),
    errors.ShuttingDown: _Row(
        grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_SHUTTING_DOWN, details=_retry_after(RETRY_SOON)
    ),
}


def to_status(error: Exception) -> grpc.Status:
    """Make the gRPC status, with its google.rpc details, of an error; of one that is not ours, INTERNAL."""
    if not isinstance(error, errors.Error):
        return _status(
            grpc.StatusCode.INTERNAL, "internal error", ErrorReason.ERROR_REASON_INTERNAL, metadata={}, details=[]
        )
    row = TABLE[type(error)]
    return _status(row.code, str(error), row.reason, metadata=row.metadata(error), details=row.details(error))


def _status(
    code: grpc.StatusCode,
    message: str,
    reason: "ErrorReason.ValueType",
    *,
    metadata: dict[str, str],
    details: list[Message],
) -> grpc.Status:
    info = error_details_pb2.ErrorInfo(reason=ErrorReason.Name(reason), domain=ERROR_DOMAIN, metadata=metadata)
    message = _shortened(message, MAX_MESSAGE_BYTES)
    packed = []
    for detail in (info, *details):
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=packed))


def _shortened(text: str, most_bytes: int) -> str:
    """Cut a text to so many bytes on the wire, percent-encoded, and show that it was cut."""
    if len(quote(text, safe=_PLAIN)) <= most_bytes:
        return text
    size, kept = 0, []
    for character in text:
        size += len(quote(character, safe=_PLAIN))
        if size > most_bytes - len(_CUT):
            break
        kept.append(character)
    return "".join(kept) + _CUT

"""What can go wrong between a client and the service, as types.

    EaselError
    ├── InvalidRequest       the spec, id or token breaks rules: every offending field is named
    ├── NotFound             there is no such generation
    │   └── ModelNotFound    there is no such model
    ├── Conflict             this request_id was used with another spec
    │   └── Deleted          the generation that this request_id made was deleted
    ├── FailedPrecondition   the generation is not in a state that allows it
    │   ├── NotFinal         it goes on still
    │   └── NotSucceeded     it has no pictures, or not yet
    ├── Exhausted            the backlog is full; try again later
    ├── Unavailable          nobody answers, or the service cannot work at present
    ├── DeadlineExceeded     the client's own deadline passed
    ├── Denied               the credential is missing or not good for this
    ├── Unsupported          the service does not know this call
    ├── Defect               the service erred, or said something that makes no sense
    └── DownloadFailed       the file of a picture could not be fetched
        └── CorruptDownload  the file is not the one that was stored

`str(error)` is one line for people.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

#: The domain of the google.rpc.ErrorInfo that the service sends.
DOMAIN = "easel"

_DETAILS_KEY = "grpc-status-details-bin"

#: What gRPC says when a connection, and not a service, ended a call.
_TRANSPORT_SIGNS = ("RST_STREAM", "Stream removed", "GOAWAY", "Socket closed", "Connection reset", "Broken pipe")

#: What gRPC says, with the status of a service that is too busy, of a message that no service would ever take.
_TOO_LARGE = "larger than max"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule."""

    #: Its path, such as `spec.steps`.
    field: str
    #: What is wrong with it.
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a service may say about an error beyond its status code."""

    #: A name out of `easel.v1.ErrorReason`; empty when the answer did not come from Easel.
    reason: str = ""
    #: Facts that belong to the reason.
    metadata: Mapping[str, str] | None = None
    #: When to try again, if the service says so.
    retry_after_seconds: float | None = None
    #: Every field that breaks a rule.
    violations: tuple[Violation, ...] = ()


class EaselError(Exception):
    """The call did not do what it should."""

    def __init__(self, message: str = "", *, details: Details | None = None) -> None:
        self.details = details or Details()
        super().__init__(" ".join((message or type(self).__doc__ or "").split()))

    @property
    def reason(self) -> str:
        """A name out of `easel.v1.ErrorReason`; empty when the answer did not come from Easel."""
        return self.details.reason

    @property
    def retry_after_seconds(self) -> float | None:
        """When to try again, if the service says so."""
        return self.details.retry_after_seconds


class InvalidRequest(EaselError):
    """The request breaks rules; `violations` names every offending field."""

    def __init__(self, message: str = "", *, details: Details | None = None) -> None:
        named = "; ".join(str(violation) for violation in details.violations) if details else ""
        super().__init__(named or message, details=details)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Every offending field."""
        return self.details.violations


class NotFound(EaselError):
    """There is no such generation."""


class ModelNotFound(NotFound):
    """There is no such model."""


class Conflict(EaselError):
    """This request_id was used with another spec."""

    @property
    def generation_id(self) -> str:
        """The generation that the request_id belongs to; empty when the service does not say."""
        return (self.details.metadata or {}).get("id", "")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that differ."""
        named = (self.details.metadata or {}).get("fields", "")
        return tuple(field.strip() for field in named.split(",") if field.strip())


class Deleted(Conflict):
    """The generation that this request_id made was deleted, and is not drawn again."""


class FailedPrecondition(EaselError):
    """The generation is not in a state that allows it."""

    @property
    def state(self) -> str:
        """Where the generation stands; empty when the service does not say."""
        return (self.details.metadata or {}).get("state", "")


class NotFinal(FailedPrecondition):
    """The generation is not final yet."""


class NotSucceeded(FailedPrecondition):
    """The generation has not SUCCEEDED, so it has no pictures."""


class Exhausted(EaselError):
    """The service takes no more at present; `retry_after_seconds` says when to try again."""


class Unavailable(EaselError):
    """The service is out of reach, or cannot work at present."""


class DeadlineExceeded(EaselError):
    """The deadline of the call passed before it was done."""


class Denied(EaselError):
    """The credential is missing, or not good for this."""


class Unsupported(EaselError):
    """The service does not know this call."""


class Defect(EaselError):
    """The service erred."""


class DownloadFailed(EaselError):
    """The file of a picture could not be fetched."""


class CorruptDownload(DownloadFailed):
    """The file of a picture is not the one that was stored."""


#: Every status a call can end with, and the error it becomes.
BY_STATUS: Mapping[grpc.StatusCode, type[EaselError]] = {
    grpc.StatusCode.CANCELLED: Unavailable,  # by the server: when we cancel, asyncio.CancelledError comes instead
    grpc.StatusCode.UNKNOWN: Defect,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INTERNAL: Defect,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: Defect,
}

#: The reasons that are errors of their own, more precise than their status.
BY_REASON: Mapping[str, type[EaselError]] = {
    "ERROR_REASON_MODEL_NOT_FOUND": ModelNotFound,
    "ERROR_REASON_GENERATION_DELETED": Deleted,
    "ERROR_REASON_GENERATION_NOT_FINAL": NotFinal,
    "ERROR_REASON_GENERATION_NOT_SUCCEEDED": NotSucceeded,
}


def from_rpc(error: grpc.aio.AioRpcError) -> EaselError:
    """Turn the error of a call into one of ours."""
    details = _details(error)
    return _kind(error, details)(error.details() or "", details=details)


def is_break(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection or the replica went away, and not the request is at fault: trying again is right.

    A connection that drops in mid-call shows as UNAVAILABLE mostly, but also as INTERNAL or UNKNOWN, which only their
    text tells from an answer of the service; a full server turns calls away as CANCELLED.
    """
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    if error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) or _details(error).reason:
        return False
    text = (error.details() or "").lower()
    return any(sign.lower() in text for sign in _TRANSPORT_SIGNS)


def _kind(error: grpc.aio.AioRpcError, details: Details) -> type[EaselError]:
    if is_break(error):
        return Unavailable
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or ""):
        return InvalidRequest
    return BY_REASON.get(details.reason, BY_STATUS[error.code()])


def _details(error: grpc.aio.AioRpcError) -> Details:
    """Read the google.rpc details; where they cannot be read, the status code says enough."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):
                return _unpack(status_pb2.Status.FromString(value))
    return Details()


def _unpack(status: status_pb2.Status) -> Details:
    found: dict[str, Any] = {}
    for detail in status.details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest.FromString(detail.value)
            found["violations"] = tuple(
                Violation(each.field, each.description) for each in bad_request.field_violations
            )
        elif detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            if info.domain == DOMAIN:
                found |= {"reason": info.reason, "metadata": dict(info.metadata)}
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            found["retry_after_seconds"] = retry.retry_delay.ToTimedelta().total_seconds()
    return Details(**found)

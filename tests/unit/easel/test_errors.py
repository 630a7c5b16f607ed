from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from easel.client import errors
from easel.client.errors import Defect, EaselError, Exhausted, InvalidRequest, Unavailable
from easel.v1.error_reason_pb2 import ErrorReason
from tests.unit.easel.scripted import bad_request, error_info, retry_info, status


def rpc_error(code: grpc.StatusCode, message: str, *details: Any) -> grpc.aio.AioRpcError:
    """Make the error as grpc.aio raises it, out of the status as the gateway sends it."""
    sent = status(code, message, *details)
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*sent.trailing_metadata or ()), details=message
    )


ALL_FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", ALL_FAILURES, ids=[code.name for code in ALL_FAILURES])
def test_every_status_becomes_an_error_of_ours(code: grpc.StatusCode) -> None:
    error = errors.from_rpc(rpc_error(code, "said\nin lines"))
    assert type(error) is errors.BY_STATUS[code]
    assert type(error) is not EaselError
    assert str(error) == "said in lines"


@pytest.mark.parametrize("reason", [value.name for value in ErrorReason.DESCRIPTOR.values if value.number])
def test_every_reason_is_kept(reason: str) -> None:
    error = errors.from_rpc(rpc_error(grpc.StatusCode.FAILED_PRECONDITION, "no", error_info(reason)))
    assert error.reason == reason


def test_reasons_that_are_errors_of_their_own_are_reasons_of_the_service() -> None:
    assert set(errors.BY_REASON) <= {value.name for value in ErrorReason.DESCRIPTOR.values}


def test_every_error_says_something_even_when_the_service_does_not() -> None:
    for kind in (*errors.BY_STATUS.values(), *errors.BY_REASON.values()):
        assert str(kind()) == kind.__doc__


def test_reasons_of_others_are_not_ours() -> None:
    error = errors.from_rpc(rpc_error(grpc.StatusCode.INTERNAL, "no", error_info("QUOTA", domain="proxy.example.org")))
    assert error.reason == ""


def test_details_are_read_together() -> None:
    details = (error_info("ERROR_REASON_BACKLOG_FULL", model="tiny"), retry_info(2.5))
    error = errors.from_rpc(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", *details))
    assert isinstance(error, Exhausted)
    assert error.retry_after_seconds == 2.5
    assert error.details.metadata == {"model": "tiny"}


def test_a_message_that_is_too_large_is_not_a_service_that_is_too_busy() -> None:
    text = "SERVER: Received message larger than max (3000053 vs. 1048576)"
    assert type(errors.from_rpc(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, text))) is InvalidRequest


def test_violations_without_a_field_are_readable_too() -> None:
    violation = bad_request()
    violation.field_violations.add(description="the request is empty")
    error = errors.from_rpc(rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "bad", violation))
    assert str(error) == "the request is empty"


def test_an_invalid_request_without_violations_keeps_its_message() -> None:
    assert str(errors.from_rpc(rpc_error(grpc.StatusCode.OUT_OF_RANGE, "past the end"))) == "past the end"
    assert InvalidRequest("x").violations == ()


def test_unreadable_details_do_no_harm() -> None:
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), metadata, details="no")
    assert str(errors.from_rpc(error)) == "no"


def test_unknown_details_do_no_harm() -> None:
    assert errors.from_rpc(rpc_error(grpc.StatusCode.NOT_FOUND, "no", Duration(seconds=1))).reason == ""


@pytest.mark.parametrize(
    ("code", "message", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "anything", [], True),
        (grpc.StatusCode.CANCELLED, "anything", [], True),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", [], True),
        (grpc.StatusCode.UNKNOWN, "Stream removed", [], True),
        (grpc.StatusCode.INTERNAL, "RST_STREAM", [error_info("ERROR_REASON_INTERNAL")], False),
        (grpc.StatusCode.INTERNAL, "a defect", [], False),
        (grpc.StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>", [], False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Stream removed", [], False),
    ],
)
def test_what_counts_as_a_break(code: grpc.StatusCode, message: str, details: list[Any], expected: bool) -> None:
    error = rpc_error(code, message, *details)
    assert errors.is_break(error) is expected
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        assert isinstance(errors.from_rpc(error), Unavailable if expected else Defect)

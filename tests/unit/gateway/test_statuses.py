"""The table of errors and statuses."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from easel.v1.error_reason_pb2 import ErrorReason
from gateway import errors
from gateway.api.statuses import TABLE, to_status

EXAMPLES: list[errors.Error] = [
    errors.InvalidRequest([errors.Violation("spec.steps", "must be 1"), errors.Violation("spec.width", "must be 8")]),
    errors.GenerationNotFound("1"),
    errors.ModelNotFound("tiny"),
    errors.GenerationDeleted("r", generation_id="1"),
    errors.GenerationNotFinal("1", state="RUNNING"),
    errors.RequestIdConflict("r", generation_id="1", fields=["spec.steps", "spec.seed"]),
    errors.GenerationNotSucceeded("1", state="QUEUED"),
    errors.BacklogFull("tiny", backlog=5),
    errors.TooManyCalls(),
    errors.DatabaseUnavailable(),
    errors.SlowReader(timeout_seconds=30),
    errors.ShuttingDown(),
]


def details_of(error: Exception) -> tuple[grpc.Status, status_pb2.Status]:
    status = to_status(error)
    ((key, value),) = status.trailing_metadata
    assert key == "grpc-status-details-bin"
    return status, status_pb2.Status.FromString(value)


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    assert set(TABLE) == set(errors.Error.__subclasses__())
    assert {type(example) for example in EXAMPLES} == set(TABLE)


def test_every_reason_is_used() -> None:
    used = {row.reason for row in TABLE.values()} | {ErrorReason.ERROR_REASON_INTERNAL}
    assert used == set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_status_says_why(error: errors.Error) -> None:
    status, rich = details_of(error)
    assert rich.code == status.code.value[0]
    assert rich.message == str(error)
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert info.domain == "easel"
    assert info.reason == ErrorReason.Name(TABLE[type(error)].reason)


@pytest.mark.parametrize(
    "error",
    [
        errors.BacklogFull("m", backlog=1),
        errors.TooManyCalls(),
        errors.DatabaseUnavailable(),
        errors.SlowReader(timeout_seconds=30),
        errors.ShuttingDown(),
    ],
)
def test_what_passes_says_when_to_try_again(error: errors.Error) -> None:
    _, rich = details_of(error)
    retry = error_details_pb2.RetryInfo()
    assert rich.details[1].Unpack(retry)
    assert retry.retry_delay.seconds >= 1


def test_violations_are_listed_one_by_one() -> None:
    _, rich = details_of(EXAMPLES[0])
    bad = error_details_pb2.BadRequest()
    assert rich.details[1].Unpack(bad)
    assert [(one.field, one.description) for one in bad.field_violations] == [
        ("spec.steps", "must be 1"),
        ("spec.width", "must be 8"),
    ]


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest([errors.Violation("spec.labels", f"key {'ü' * 60} {number}") for number in range(99)]),
        errors.RequestIdConflict("r", generation_id="1", fields=[f"spec.labels.{'ü' * 60}{n}" for n in range(64)]),
    ],
    ids=["violations", "conflict"],
)
def test_clients_take_the_largest_errors(error: errors.Error) -> None:
    status, rich = details_of(error)
    on_the_wire = len(quote(status.details)) + len(b64encode(rich.SerializeToString()))
    assert on_the_wire < 8_000
    assert status.details.endswith(" ...")
    assert len(rich.details) >= 1


def test_a_violation_that_takes_many_words_is_cut_and_not_left_out() -> None:
    known = ", ".join(f"model-{number}" for number in range(1_000))
    _, rich = details_of(errors.InvalidRequest([errors.Violation("spec.model", f"must be one of: {known}")] * 2))
    bad = error_details_pb2.BadRequest()
    assert rich.details[1].Unpack(bad)
    assert [one.field for one in bad.field_violations] == ["spec.model"] * 2
    assert all(one.description.endswith(" ...") for one in bad.field_violations)


async def test_the_largest_error_arrives_over_the_wire() -> None:
    error = errors.InvalidRequest([errors.Violation("spec.labels", f"key {'ü' * 60} {n}") for n in range(99)])

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort_with_status(to_status(error))
        raise AssertionError

    handler: Any = grpc.unary_unary_rpc_method_handler(refuse)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Refuse": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/test/Refuse")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await server.stop(None)


def test_conflicts_name_the_fields() -> None:
    _, rich = details_of(errors.RequestIdConflict("r", generation_id="1", fields=["spec.steps", "spec.seed"]))
    info = error_details_pb2.ErrorInfo()
    rich.details[0].Unpack(info)
    assert dict(info.metadata) == {"id": "1", "fields": "spec.steps,spec.seed"}


def test_defects_tell_nothing_of_themselves() -> None:
    status, _ = details_of(ValueError("secret"))
    assert status.code == grpc.StatusCode.INTERNAL
    assert "secret" not in status.details

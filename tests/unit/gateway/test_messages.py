"""Between the record and the messages of `easel.v1`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from easel.v1.generation_pb2 import AttemptOutcome, Failure, FailureReason
from gateway.api.messages import to_attempt
from gateway.record.documents import from_json
from gateway.record.generation import Outcome, StoredAttempt

RUNNING = StoredAttempt(
    number=1,
    worker_id="w1",
    outcome=None,
    failure=None,
    progress={"step": 7, "eta": "3s"},
    alone=None,
    start_time=datetime(2026, 1, 2, tzinfo=UTC),
    end_time=None,
)


def test_an_estimate_is_for_as_long_as_an_attempt_is_under_way() -> None:
    assert to_attempt(RUNNING).progress.eta.seconds == 3
    ended = to_attempt(replace(RUNNING, outcome=Outcome.LOST, end_time=RUNNING.start_time + timedelta(seconds=1)))
    assert ended.progress.step == 7
    assert not ended.progress.HasField("eta")


def test_what_is_not_known_of_an_attempt_is_absent() -> None:
    known = replace(RUNNING, progress=None, end_time=RUNNING.start_time)
    assert {field.name for field, _ in to_attempt(known).ListFields()} == {
        "number",
        "worker_id",
        "start_time",
        "end_time",
    }
    assert to_attempt(replace(known, alone=False)).HasField("alone")


def test_outcomes_are_those_of_the_api() -> None:
    names = {f"ATTEMPT_OUTCOME_{outcome}" for outcome in Outcome}
    assert names == set(AttemptOutcome.keys()) - {"ATTEMPT_OUTCOME_UNSPECIFIED"}


def test_a_reason_that_a_newer_gateway_wrote_is_read_as_not_known() -> None:
    failure = from_json({"reason": "FAILURE_REASON_OF_TOMORROW", "message": "no"}, Failure())
    assert failure == Failure(reason=FailureReason.FAILURE_REASON_UNSPECIFIED, message="no")

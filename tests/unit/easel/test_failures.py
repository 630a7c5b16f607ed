"""The table of reasons, and the page that tells it to operators."""

import re
from pathlib import Path

import pytest

from easel.failures import REMEDIES, Remedy, make_failure, remedy_of
from easel.v1.generation_pb2 import Failure, FailureReason

PAGE = Path(__file__).parents[3] / "docs" / "dead-letters.md"


def test_the_page_says_what_the_table_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    of_attempts = {reason: remedy.value for reason, remedy in REMEDIES.items()}
    del of_attempts[FailureReason.FAILURE_REASON_DEAD_LETTER]
    assert {FailureReason.Value(f"FAILURE_REASON_{name}"): told for name, told in rows} == of_attempts


@pytest.mark.parametrize("reason", REMEDIES, ids=FailureReason.Name)
def test_workers_and_gateways_mean_the_same(reason: "FailureReason.ValueType") -> None:
    failure = make_failure(reason, "no")
    assert remedy_of(failure) is REMEDIES[reason]
    assert failure.retryable == (REMEDIES[reason] is not Remedy.NONE)


@pytest.mark.parametrize("number", [0, 99])
def test_what_is_not_in_the_table_is_worth_what_its_worker_says(number: int) -> None:
    failure = Failure(message="no")
    failure.MergeFromString(bytes([8, number]))
    assert remedy_of(failure) is Remedy.NONE
    failure.retryable = True
    assert remedy_of(failure) is Remedy.RETRY

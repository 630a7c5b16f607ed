"""What goes onto a page, and the tokens between pages."""

import pytest

from easel.v1.generation_messages_pb2 import ListGenerationsRequest
from easel.v1.generation_pb2 import FailureReason, Generation, GenerationSpec, GenerationState
from gateway import page_token
from gateway.api import lists
from gateway.api.violations import Violations
from gateway.record.generation import State

ID = "01920000-0000-7000-8000-000000000001"
GRPC_LIMIT = 4 * 1024 * 1024


def test_any_page_goes_into_one_message() -> None:
    long = Generation(spec=GenerationSpec(prompt="\N{GRINNING FACE}" * 4_000))
    page = lists.fit([long] * 1_000)
    assert 100 < len(page) < 1_000
    assert sum(one.ByteSize() for one in page) < GRPC_LIMIT - 64 * 1024


def test_a_page_holds_at_least_one() -> None:
    huge = Generation(spec=GenerationSpec(prompt="x" * GRPC_LIMIT))
    assert lists.fit([huge, huge]) == [huge]


def test_what_is_asked_for_again_and_again_is_asked_for_once() -> None:
    # More than a statement may have parameters.
    request = ListGenerationsRequest(
        states=[GenerationState.GENERATION_STATE_FAILED, GenerationState.GENERATION_STATE_QUEUED] * 100_000,
        failure_reasons=[FailureReason.FAILURE_REASON_STORAGE, FailureReason.FAILURE_REASON_UNSPECIFIED] * 100_000,
        models=["tiny"] * lists.MAX_MODELS,
    )
    violations = Violations()
    which = lists.check_filter(request, violations)
    violations.raise_any()
    assert which.states == [State.QUEUED, State.FAILED]
    assert which.failure_reasons == ["FAILURE_REASON_UNSPECIFIED", "FAILURE_REASON_STORAGE"]


def test_a_token_is_good_for_its_filters_whatever_the_page_size() -> None:
    request = ListGenerationsRequest(models=["tiny"], labels={"a": "1", "b": "2"}, page_size=5)
    token = page_token.to_token(ID, filters=lists.filters_of(request))
    same = ListGenerationsRequest(models=["tiny"], labels={"b": "2", "a": "1"}, page_size=9, page_token=token)
    assert page_token.from_token(token, filters=lists.filters_of(same)) == ID
    with pytest.raises(ValueError, match="other filters"):
        page_token.from_token(token, filters=ListGenerationsRequest(models=["other"]))


@pytest.mark.parametrize("token", ["x", "Zm9v", "MS4x", "ü", "MS5ub3QtYS11dWlkLnh4"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        page_token.from_token(token, filters=ListGenerationsRequest())

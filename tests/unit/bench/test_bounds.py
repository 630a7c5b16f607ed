"""What of all that was measured is a target."""

from dataclasses import replace

import pytest

from bench.bounds import OF_ALL_THAT_IS_LIVE, READS, RENEWAL, Cost, Measured, Reads, summarise

QUICK = [1.0, 2.0, 3.0]


def cost(*, few: float, many: float) -> Cost:
    return Cost(few_ms=[few] * 3, many_ms=[many] * 3)


@pytest.fixture
def measured() -> Measured:
    quick = dict.fromkeys((*READS, RENEWAL), QUICK)
    return Measured(
        rows=1_000_000,
        bytes=1,
        costs={"Attempts.claim": cost(few=1, many=2)} | dict.fromkeys(OF_ALL_THAT_IS_LIVE, cost(few=0.1, many=20)),
        reads=Reads(alone_ms=quick, flooded_ms=quick, unanswered=0, flood={}, seconds=1),
    )


def missed(measured: Measured) -> list[str]:
    return [target.name for target in summarise(measured).targets if not target.met]


@pytest.mark.parametrize("name", OF_ALL_THAT_IS_LIVE)
def test_what_looks_at_all_that_is_live_has_a_bound_of_its_own(measured: Measured, name: str) -> None:
    assert missed(measured) == []
    slow = replace(measured, costs={**measured.costs, name: cost(few=60, many=60)})
    assert missed(slow) == [f"{name}, p50 in ms"]


def test_the_operation_that_a_history_costs_most_is_the_target(measured: Measured) -> None:
    slow = replace(measured, costs={**measured.costs, "Attempts.renew": cost(few=1, many=4)})
    assert missed(slow) == ["many rows over few, p50: Attempts.renew"]


def test_what_is_not_answered_keeps_within_no_bound(measured: Measured) -> None:
    flooded_ms = {**measured.reads.flooded_ms, "watch": []}
    starved = replace(measured, reads=replace(measured.reads, flooded_ms=flooded_ms, unanswered=1))
    assert missed(starved) == ["watch in a flood over alone, p99", "calls and renewals without an answer"]

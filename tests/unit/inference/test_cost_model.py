from collections.abc import Callable

import pytest

from inference.engine.cost_model import FORGOTTEN_STEPS, LONGEST_STEP_SECONDS, REMEMBERED_STEPS, CostModel

KEY = "64 x 64"


def taught(seconds: Callable[[int], float], *, most_rows: int = 64) -> CostModel:
    """Let a model try what it wants to, from one row on."""
    costs = CostModel(most_rows=most_rows)
    rows = 0
    while rows != costs.cap(KEY):
        rows = costs.cap(KEY)
        costs.observe(KEY, rows, seconds(rows))
    return costs


def test_of_what_was_never_seen_nothing_is_known() -> None:
    costs = CostModel(most_rows=64)

    assert costs.seconds(KEY, 4) == 0
    assert costs.cap(KEY) == 1


@pytest.mark.parametrize(
    ("seconds", "cap"),
    [
        (lambda _rows: 0.01, 64),  # more rows cost nothing: as many as may be
        (lambda rows: 0.01 * rows, 1),  # they gain nothing
        (lambda rows: 0.01 * max(rows, 8), 8),  # the device is full with 8
        (lambda rows: 0.003 + 0.01 * rows, 4),  # 4 reach 95 % of what 64 would
        (lambda rows: 0.1 + 0.0001 * rows**2, 32),  # with 64 a step would take too long
    ],
)
def test_as_many_rows_as_pay(seconds: Callable[[int], float], cap: int) -> None:
    assert taught(seconds).cap(KEY) == cap


def test_no_more_rows_than_the_operator_allows() -> None:
    assert taught(lambda _rows: 0.01, most_rows=12).cap(KEY) == 12


def test_no_more_rows_than_memory_allows() -> None:
    costs = taught(lambda _rows: 0.01)

    costs.halve(KEY, 64)

    assert costs.cap(KEY) == 32
    costs.halve(KEY, 1)
    assert costs.cap(KEY) == 1


def test_where_steps_are_long_anyway_those_that_are_hardly_longer_pay() -> None:
    assert taught(lambda rows: 20 * LONGEST_STEP_SECONDS * rows).cap(KEY) == 1
    assert taught(lambda rows: 2 * LONGEST_STEP_SECONDS + 0.01 * rows).cap(KEY) == 16


def test_between_what_was_measured_costs_lie_on_a_line_and_beyond_in_proportion() -> None:
    costs = CostModel(most_rows=64)
    costs.observe(KEY, 2, 0.2)
    costs.observe(KEY, 8, 0.5)

    assert costs.seconds(KEY, 1) == pytest.approx(0.2)
    assert costs.seconds(KEY, 4) == pytest.approx(0.3)
    assert costs.seconds(KEY, 16) == pytest.approx(1.0)


def test_one_slow_step_changes_nothing_and_many_do() -> None:
    costs = CostModel(most_rows=64)
    for _ in range(REMEMBERED_STEPS):
        costs.observe(KEY, 2, 0.1)

    costs.observe(KEY, 2, 5.0)
    assert costs.seconds(KEY, 2) == pytest.approx(0.1)
    for _ in range(REMEMBERED_STEPS):
        costs.observe(KEY, 2, 0.2)
    assert costs.seconds(KEY, 2) == pytest.approx(0.2)


def test_what_did_not_pay_once_is_tried_again_some_day() -> None:
    costs = taught(lambda rows: 0.01 * max(rows, 8))
    assert costs.cap(KEY) == 8

    for _ in range(FORGOTTEN_STEPS + 1):
        costs.observe(KEY, 8, 0.08)

    assert costs.cap(KEY) == 16


def test_shapes_have_costs_of_their_own() -> None:
    costs = taught(lambda _rows: 0.01)

    assert costs.cap("another") == 1
    assert costs.seconds("another", 1) == 0

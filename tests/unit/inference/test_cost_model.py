from collections.abc import Callable

import pytest

from inference.engine.cost_model import (
    FORGOTTEN_STEPS,
    LONGEST_STEP_SECONDS,
    MOST_SHAPES,
    REMEMBERED_STEPS,
    TRUSTED_STEPS,
    CostModel,
)

KEY = "64 x 64"


def taught(seconds: Callable[[int], float], *, most_rows: int = 64) -> CostModel:
    """Let a model try what it wants to, from one row on."""
    costs = CostModel(most_rows=most_rows)
    rows = 0
    while rows != costs.cap(KEY):
        rows = costs.cap(KEY)
        observe(costs, rows, seconds(rows))
    return costs


def observe(costs: CostModel, rows: int, seconds: float, *, times: int = TRUSTED_STEPS) -> None:
    for _ in range(times):
        costs.observe(KEY, rows, seconds)


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


def test_the_first_steps_with_more_rows_say_nothing_yet() -> None:
    """On some devices they load kernels."""
    costs = CostModel(most_rows=64)
    observe(costs, 2, 0.02)
    assert costs.cap(KEY) == 4

    observe(costs, 4, 0.6, times=1)
    assert costs.cap(KEY) == 4
    observe(costs, 4, 0.02, times=TRUSTED_STEPS - 1)

    assert costs.cap(KEY) == 8


def test_memory_that_did_not_suffice_once_is_tried_again_some_day() -> None:
    costs = taught(lambda _rows: 0.01)
    costs.halve(KEY, 4)
    assert costs.cap(KEY) == 2

    observe(costs, 2, 0.01, times=FORGOTTEN_STEPS)
    assert costs.cap(KEY) == 4
    observe(costs, 4, 0.01, times=FORGOTTEN_STEPS)
    assert costs.cap(KEY) == 8


def test_what_the_least_step_takes_is_never_forgotten() -> None:
    costs = CostModel(most_rows=64)
    observe(costs, 1, 0.2)
    observe(costs, 8, 0.3)
    observe(costs, 16, 0.35, times=FORGOTTEN_STEPS + 10)

    assert costs.cap(KEY) <= 8


def test_only_so_many_shapes_are_remembered() -> None:
    costs = CostModel(most_rows=64)
    for side in range(MOST_SHAPES + 5):
        costs.observe(side, 2, 0.1)
        costs.seconds(f"asked for {side}", 2)

    assert costs.seconds(0, 2) == 0
    assert costs.seconds(MOST_SHAPES, 2) == 0.1
    assert len(costs._curves) == MOST_SHAPES


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

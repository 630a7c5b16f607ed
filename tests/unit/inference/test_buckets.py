from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from inference.engine.buckets import SLACK, Buckets
from inference.engine.cost_model import CostModel

SECONDS = {"small": 0.1, "large": 0.4}
CAP = 8


@dataclass(eq=False)
class Picture:
    """One that is being drawn."""

    key: Hashable = "small"
    rows: int = 2
    evaluations: int = 20
    arrived: float = 0.0
    alone: bool = False


class Costs(CostModel):
    """A step takes as long as its shape says, whatever the number of rows."""

    def __init__(self) -> None:
        super().__init__(most_rows=CAP)

    def seconds(self, key: Hashable, rows: int) -> float:
        return SECONDS[str(key)]

    def cap(self, key: Hashable) -> int:
        return CAP


@pytest.fixture
def buckets() -> Buckets[Picture]:
    return Buckets(Costs())


def turns(buckets: Buckets[Picture], count: int, *, now: float = 0.0) -> Counter[Hashable]:
    """Take turns, and count whose they were."""
    taken = Counter[Hashable]()
    for _ in range(count):
        batch = buckets.choose(now)
        assert batch is not None
        taken[batch.key] += 1
        buckets.charge(batch.key, SECONDS[str(batch.key)])
    return taken


def test_without_pictures_there_is_no_batch(buckets: Buckets[Picture]) -> None:
    assert buckets.choose(0.0) is None


def test_a_batch_is_of_one_shape_and_holds_whole_pictures(buckets: Buckets[Picture]) -> None:
    for picture in [*(Picture(rows=3) for _ in range(3)), Picture(rows=2), Picture(key="large")]:
        buckets.add(picture)

    batch = buckets.choose(0.0)

    assert batch is not None
    assert [picture.rows for picture in batch.members] == ([3, 3, 2] if batch.key == "small" else [2])


def test_one_that_is_larger_than_a_batch_is_one(buckets: Buckets[Picture]) -> None:
    buckets.add(Picture(rows=40))

    assert turns(buckets, 3) == {"small": 3}


def test_one_that_is_to_be_alone_is(buckets: Buckets[Picture]) -> None:
    suspect = Picture(alone=True, evaluations=1)
    for picture in (Picture(), suspect, Picture()):
        buckets.add(picture)

    batch = buckets.choose(0.0)
    assert batch is not None
    assert list(batch.members) == [suspect]
    buckets.remove(suspect)
    batch = buckets.choose(0.0)
    assert batch is not None
    assert len(batch.members) == 2


def test_shapes_share_time_by_their_pictures_and_not_turns(buckets: Buckets[Picture]) -> None:
    for key in ("small", "small", "small", "large"):
        buckets.add(Picture(key=key, evaluations=10_000))

    taken = turns(buckets, 1300)

    # Three quarters of the time for small ones, whose steps take a quarter of a large one's: 12 to 1.
    assert taken["small"] / taken["large"] == pytest.approx(12, rel=0.05)


def test_who_is_late_goes_first(buckets: Buckets[Picture]) -> None:
    for _ in range(20):
        buckets.add(Picture(arrived=40.0))
    buckets.add(Picture(key="large", arrived=0.0))

    # Both shapes take turns, so that twice the time is in order.
    in_time = SLACK * 20 * SECONDS["large"] * 2
    assert turns(buckets, 40, now=in_time - 1)["small"] > 20
    assert turns(buckets, 5, now=in_time + 1) == {"large": 5}


def test_who_was_late_for_long_owes_no_more_than_a_batch(buckets: Buckets[Picture]) -> None:
    late = Picture(key="large", evaluations=1)
    buckets.add(late)
    turns(buckets, 500, now=1000.0)

    buckets.add(Picture(key="small", arrived=1000.0, evaluations=10_000))
    # First, since a shape without pictures is forgotten with its debts.
    buckets.add(Picture(key="large", arrived=1000.0, evaluations=10_000))
    buckets.remove(late)

    assert turns(buckets, 100, now=1000.0)["large"] > 10

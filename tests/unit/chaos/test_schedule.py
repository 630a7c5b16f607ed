from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import BLOWS, Action, plan


@given(seed=st.integers(0, 2**32), kills=st.integers(0, 100), more=st.integers(0, 100))
def test_the_seed_repeats_the_schedule(seed: int, kills: int, more: int) -> None:
    schedule = plan(seed=seed, kills=kills)
    assert schedule == plan(seed=seed, kills=kills)
    assert schedule == plan(seed=seed, kills=kills + more)[:kills]


def test_another_seed_is_another_schedule() -> None:
    assert plan(seed=1, kills=20) != plan(seed=2, kills=20)


def test_everything_is_broken_in_every_way() -> None:
    counted = Counter((strike.component, strike.action) for strike in plan(seed=1, kills=60))
    assert set(counted) == set(BLOWS)
    assert min(counted.values()) >= 2


def test_some_outages_outlast_the_lease() -> None:
    schedule = plan(seed=1, kills=60)
    assert any(strike.outage_seconds > 2 and strike.action == Action.FREEZE for strike in schedule)
    assert any(strike.outage_seconds > 2 and strike.action == Action.KILL for strike in schedule)

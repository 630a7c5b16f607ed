"""Measurements run, in small and not for their numbers, where that takes but seconds."""

import math

from bench import accept, startup


async def test_accept() -> None:
    (measured,) = await accept.measure(rounds=1, clients=2, seconds=0.2)
    assert 0 < measured.share < math.inf
    assert measured.dispatching_accepts_per_second > 0


def test_help_needs_nothing_heavy() -> None:
    assert startup.imported_by_help() == []

"""Measurements run, in small and not for their numbers, where that takes but seconds."""

import math

import pytest

from bench import accept, bounds, startup


async def test_accept() -> None:
    (measured,) = await accept.measure(rounds=1, clients=2, seconds=0.2)
    assert 0 < measured.share < math.inf
    assert measured.dispatching_accepts_per_second > 0


def test_help_needs_nothing_heavy() -> None:
    assert startup.imported_by_help() == []


async def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WARM_UP_CALLS", 0)
    monkeypatch.setattr(bounds, "WARM_UP_SECONDS", 0.2)
    filled: list[int] = []
    measured = await bounds.measure(rows=2_000, calls=1, seconds=1, on_progress=filled.append)
    assert filled == [1_000, 2_000]
    assert all(0 < cost.ratio < math.inf for cost in measured.costs.values())
    assert measured.reads.alone_ms.keys() >= {*bounds.READS, bounds.RENEWAL}
    assert all(told["calls"] > 0 for told in measured.reads.flood.values())
    assert bounds.summarise(measured).targets

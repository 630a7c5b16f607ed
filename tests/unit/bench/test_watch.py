"""What a watcher takes note of, and what of all that is a target."""

from typing import Any

import pytest

from bench.watch import Measured, summarise
from bench.watchers import Watcher, percentiles
from easel.client import Client, Event, Generation, GenerationState
from easel.v1.generation_pb2 import Progress

MIB = 1024 * 1024
RUNNING = GenerationState.GENERATION_STATE_RUNNING
SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED


def change(revision: int, state: "GenerationState.ValueType") -> Event:
    return Event(generation=Generation(revision=revision, state=state))


def progress(*, published_at: float) -> Event:
    return Event(generation=Generation(revision=2, state=RUNNING), progress=Progress(step_seconds=published_at))


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(Client("127.0.0.1:1"), "g")


def see(watcher: Watcher, *events: tuple[float, Event]) -> None:
    for at, event in events:
        watcher._see(event, at=at)


def test_a_watcher_takes_the_time_of_what_was_published_while_it_was_there(watcher: Watcher) -> None:
    see(
        watcher,
        (10.0, change(2, RUNNING)),
        (10.0, progress(published_at=9.5)),
        (11.5, progress(published_at=11.25)),
    )
    assert watcher.latencies == [0.25]
    assert watcher.events == 3


def test_a_watcher_counts_the_changes_left_out(watcher: Watcher) -> None:
    see(watcher, (10.0, change(2, RUNNING)), (11.0, change(3, RUNNING)), (12.0, change(6, SUCCEEDED)))
    assert watcher.skipped_changes == 2
    assert watcher.succeeded


def test_percentiles_go_from_the_least_to_the_greatest() -> None:
    hundred_and_one = percentiles([each / 10 for each in reversed(range(101))])
    assert hundred_and_one == [each / 10 for each in range(101)]


@pytest.mark.parametrize(
    ("differing", "unmet"),
    [
        ({}, []),
        ({"missed_ends": 1}, ["missed ends"]),
        ({"skipped_changes": 1}, ["changes of state left out"]),
        ({"latencies_ms": [1.0] * 90 + [251.0] * 10}, ["p99 from publish to client, ms"]),
        ({"watched_bytes": [100 * MIB, 101 * MIB, 100 * MIB]}, ["KiB per watcher, at the peak"]),
        ({"connections": 3}, ["connections"]),
        ({"resumed": {"restarted": 10, "killed": 9}}, ["resumed, gateway killed"]),
    ],
)
def test_what_is_a_target(differing: dict[str, Any], unmet: list[str]) -> None:
    good: dict[str, Any] = {
        "watches": 10,
        "idle_bytes": 100 * MIB,
        "watched_bytes": [100 * MIB],
        "connections": 4,
        "latencies_ms": [1.0] * 100,
        "final_latencies_ms": [1.0] * 100,
        "resumed": {"restarted": 10, "killed": 10},
    }
    summary = summarise(Measured(**{**good, **differing}), connections=4)
    assert [target.name for target in summary.targets if not target.met] == unmet

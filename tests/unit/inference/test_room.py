from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

import pytest

from inference.engine.cost_model import CostModel
from inference.engine.room import Room

STEP_SECONDS = 0.1
CAP = 16


class Costs(CostModel):
    """Steps take as long whatever they do."""

    def __init__(self) -> None:
        super().__init__(most_rows=CAP)

    def seconds(self, key: Hashable, rows: int) -> float:
        return STEP_SECONDS

    def cap(self, key: Hashable) -> int:
        return CAP


@pytest.fixture
def room() -> Room:
    """Two rows are what requests want."""
    room = Room(Costs())
    room.note("small", 2)
    return room


def picture(*, rows: int = 2, remaining: int = 10, key: str = "small") -> Any:
    return SimpleNamespace(key=key, rows=rows, remaining=remaining)


def test_an_idle_engine_has_room_for_a_batch(room: Room) -> None:
    assert room.left([], waiting=0) == 8


def test_what_is_in_hand_takes_room_and_so_does_what_waits(room: Room) -> None:
    assert room.left([picture() for _ in range(3)], waiting=0) == 5
    assert room.left([picture() for _ in range(3)], waiting=4) == 1
    assert room.left([picture() for _ in range(8)], waiting=0) == 0
    assert room.left([picture() for _ in range(20)], waiting=3) == 0


def test_who_leaves_with_the_next_step_makes_room_now(room: Room) -> None:
    assert room.left([picture() for _ in range(7)] + [picture(remaining=1)], waiting=0) == 1


def test_no_more_than_a_batch_leaves_with_a_step(room: Room) -> None:
    assert room.left([picture(remaining=1) for _ in range(8)], waiting=0) == 8
    assert room.left([picture(remaining=1) for _ in range(16)], waiting=0) == 0
    assert room.left([picture(remaining=1) for _ in range(500)], waiting=0) == 0


def test_a_few_requests_that_want_more_count_for_little(room: Room) -> None:
    for rows in (2, 2, 2, 4):
        room.note("small", rows)

    assert room.left([], waiting=0) == 8


def test_who_is_far_from_done_does_not(room: Room) -> None:
    assert room.left([picture() for _ in range(7)] + [picture(remaining=2)], waiting=0) == 0


def test_requests_that_want_more_find_less_room(room: Room) -> None:
    for _ in range(20):
        room.note("small", 8)

    assert room.left([], waiting=0) == 2
    assert room.left([picture(rows=4)], waiting=0) == 1


def test_one_that_is_larger_than_a_batch_finds_room_only_alone(room: Room) -> None:
    for _ in range(20):
        room.note("small", 40)

    assert room.left([], waiting=0) == 1
    assert room.left([picture()], waiting=0) == 0


def test_each_shape_may_have_a_batch_but_not_many_of_them(room: Room) -> None:
    pictures = [picture() for _ in range(8)] + [picture(key="large")]
    assert room.left(pictures, waiting=0) == 7
    shapes = [picture(key=f"shape {number}") for number in range(16)]
    assert room.left(shapes, waiting=0) == 0

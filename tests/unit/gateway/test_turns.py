"""Who comes in when, where only some are let in at a time."""

import asyncio

import pytest

from gateway.errors import TooManyCalls
from gateway.turns import Turns

PATIENCE_SECONDS = 10.0


class Door:
    """Visitors who stay until they are told to go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._leave: dict[str, asyncio.Event] = {}
        self.visits: dict[str, asyncio.Task[None]] = {}
        self.came: list[str] = []

    def arrive(self, *names: str) -> None:
        """Let visitors come to the door, each of the owner with its first letter."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self.visits[name] = asyncio.create_task(self._visit(name))

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await self.visits[name]

    async def _visit(self, name: str) -> None:
        async with self._turns.take(name[0]):
            self.came.append(name)
            await self._leave[name].wait()


@pytest.fixture
def door() -> Door:
    return Door(Turns(places=3, places_per_owner=2, timeout_seconds=PATIENCE_SECONDS))


async def settled(door: Door) -> list[str]:
    """Say who came in, once nobody else can."""
    for _ in range(10):
        await asyncio.sleep(0)
    return door.came


async def test_one_owner_never_takes_all_places(door: Door) -> None:
    door.arrive("a1", "a2", "a3", "a4")
    assert await settled(door) == ["a1", "a2"]
    door.arrive("b1")
    assert await settled(door) == ["a1", "a2", "b1"]


async def test_owners_take_turns_however_many_of_one_wait(door: Door) -> None:
    door.arrive("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert await settled(door) == ["a1", "a2", "b1"]
    await door.leave("b1")
    assert await settled(door) == ["a1", "a2", "b1", "b2"]
    await door.leave("a1")
    await door.leave("b2")
    assert await settled(door) == ["a1", "a2", "b1", "b2", "a3", "c1"]


async def test_who_gives_up_keeps_nobody_waiting(door: Door) -> None:
    door.arrive("a1", "a2", "b1", "a3", "a4", "c1")
    await settled(door)
    door.visits["a3"].cancel()
    await door.leave("a1")
    assert await settled(door) == ["a1", "a2", "b1", "c1"]
    await door.leave("a2")
    assert (await settled(door))[-1] == "a4"


async def test_a_place_given_to_one_who_goes_in_that_moment_goes_to_the_next() -> None:
    turns = Turns(places=1, places_per_owner=1, timeout_seconds=PATIENCE_SECONDS)
    door = Door(turns)
    async with turns.take("a"):
        door.arrive("b1", "c1")
        await settled(door)
    # By now b1 was let in, and is told to go before it hears of that.
    door.visits["b1"].cancel()
    assert await settled(door) == ["c1"]


async def test_waiting_ends_in_time() -> None:
    turns = Turns(places=1, places_per_owner=1, timeout_seconds=0.01)
    async with turns.take("a"):
        with pytest.raises(TooManyCalls):
            async with turns.take("b"):
                pass
    async with turns.take("b"):
        pass

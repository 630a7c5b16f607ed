"""Clients that come with wishes, each in a way of its own, and some of whom die and come back."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from loguru import logger

from easel.client import is_final
from easel.v1.generation_pb2 import Generation, GenerationState
from tests.chaos.caller import Caller, Gateway, GaveUp, Position, Switchboard
from tests.chaos.journal import Journal
from tests.chaos.wishes import Wish, wish

#: How long somebody is dead or away.
AWAY_SECONDS = (0.0, 3.0)
#: When somebody is torn out of a call, which takes a few milliseconds when nothing is broken.
MID_CALL_SECONDS = (0.0, 0.03)
#: When somebody is torn out of a watch, or cancels.
MID_WATCH_SECONDS = (0.0, 1.5)
#: Of those who die, never to be seen again.
GONE_SHARE = 0.1
POLL_SECONDS = (0.1, 0.5)
LIST_SECONDS = 1.0
BATCH = (2, 4)

Visit = Callable[[Caller], Awaitable[None]]


class Load:
    """A number of clients, each of whom has one visit at a time under way."""

    def __init__(self, targets: Mapping[str, str], journal: Journal, *, clients: int, seed: int) -> None:
        self._targets = targets
        self._journal = journal
        self._clients = clients
        self._seed = seed
        self._stopping = asyncio.Event()
        #: How many visits are over.
        self.visits = 0
        self.disappointed = 0

    async def run(self) -> None:
        """Let everybody come and come again until told to stop; then let them see their visits through."""
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._clients + 1):
                group.create_task(self._come_again(number))
            group.create_task(self._look_around())

    def stop(self) -> None:
        """Let nobody come any more."""
        self._stopping.set()

    async def _come_again(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        visit = 0
        while not self._stopping.is_set():
            visit += 1
            async with Switchboard(self._targets) as switchboard:
                caller = self._caller(f"client-{number}.{visit}", switchboard.gateways, chance)
                try:
                    await _choose(chance)(caller)
                except GaveUp as error:
                    self.disappointed += 1
                    logger.error("{}", error, action="gave_up")
                self.visits += 1

    async def _look_around(self) -> None:
        async with Switchboard(self._targets) as switchboard:
            caller = self._caller("looker", switchboard.gateways, random.Random(self._seed))
            while not self._stopping.is_set():
                with contextlib.suppress(GaveUp):
                    await caller.list()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LIST_SECONDS)

    def _caller(self, name: str, gateways: Sequence[Gateway], chance: random.Random) -> Caller:
        return Caller(name, gateways, self._journal, chance)


def _choose(chance: random.Random) -> Visit:
    return chance.choices([visit for visit, _ in VISITS], [weight for _, weight in VISITS])[0]


async def _create_and_watch(caller: Caller) -> None:
    generation = await caller.create(_wish(caller))
    await caller.watch_to_the_end(Position(generation_id=generation.id))


async def _ask_twice_at_once(caller: Caller) -> None:
    asked = _wish(caller)
    twins = [caller.alike("left"), caller.alike("right")]
    both = await asyncio.gather(*(twin.create(asked) for twin in twins))
    await twins[0].watch_to_the_end(Position(generation_id=both[1].id))
    again = await twins[1].create(asked)
    await twins[1].watch_to_the_end(Position(generation_id=again.id))


async def _come_in_company(caller: Caller) -> None:
    wishes = [_wish(caller) for _ in range(caller.chance.randint(*BATCH))]
    accepted = await caller.batch_create(wishes)
    for generation in accepted:
        await caller.watch_to_the_end(Position(generation_id=generation.id))


async def _generate(caller: Caller) -> None:
    asked = _wish(caller)
    await _come_back(caller, asked, await _generate_until(caller, asked, seconds=None))


async def _generate_and_die(caller: Caller) -> None:
    asked = _wish(caller)
    seconds = caller.chance.uniform(*MID_WATCH_SECONDS)
    position = await _generate_until(caller, asked, seconds=seconds)
    if caller.chance.random() < GONE_SHARE:
        return
    await _be_away(caller)
    await _come_back(caller, asked, position)


async def _die_asking(caller: Caller) -> None:
    asked = _wish(caller)
    # Dead people take no notes: whether it was accepted, nobody knows.
    await _until(caller.create(asked), seconds=caller.chance.uniform(*MID_CALL_SECONDS))
    if caller.chance.random() < GONE_SHARE:
        return
    await _be_away(caller)
    await _come_back(caller, asked, None)


async def _watch_and_die(caller: Caller) -> None:
    generation = await caller.create(_wish(caller))
    position = Position(generation_id=generation.id)
    for _ in range(caller.chance.randint(1, 3)):
        await _until(caller.watch(position), seconds=caller.chance.uniform(*MID_WATCH_SECONDS))
        await _be_away(caller)
    await caller.watch_to_the_end(position)


async def _keep_looking(caller: Caller) -> None:
    generation = await caller.create(_wish(caller))
    while not is_final(generation):
        await asyncio.sleep(caller.chance.uniform(*POLL_SECONDS))
        generation = await caller.get(generation.id)


async def _cancel(caller: Caller) -> None:
    generation = await caller.create(_wish(caller))
    await asyncio.sleep(caller.chance.uniform(*MID_WATCH_SECONDS))
    rivals = [caller.alike(name) for name in ("first", "second")[: caller.chance.randint(1, 2)]]
    await asyncio.gather(*(rival.cancel(generation.id) for rival in rivals))
    await caller.watch_to_the_end(Position(generation_id=generation.id))


async def _retry(caller: Caller) -> None:
    asked = _wish(caller)
    generation = await caller.create(asked)
    if caller.chance.random() < 0.3:
        await caller.cancel(generation.id)
    await caller.watch_to_the_end(Position(generation_id=generation.id))
    again = Wish(fate=asked.fate, spec=asked.spec)
    caller.announce(again)
    retried = await caller.retry(generation.id, request_id=again.request_id)
    await caller.retry(generation.id, request_id=again.request_id)
    await caller.watch_to_the_end(Position(generation_id=retried.id))


#: The ways to come, and how often.
VISITS: Sequence[tuple[Visit, int]] = (
    (_create_and_watch, 20),
    (_ask_twice_at_once, 10),
    (_come_in_company, 8),
    (_generate, 12),
    (_generate_and_die, 10),
    (_die_asking, 10),
    (_watch_and_die, 10),
    (_keep_looking, 8),
    (_cancel, 8),
    (_retry, 4),
)


def _wish(caller: Caller) -> Wish:
    made = wish(caller.chance)
    caller.announce(made)
    return made


async def _come_back(caller: Caller, asked: Wish, position: Position | None) -> Generation | None:
    """Go on from a token, or with nothing but the request_id."""
    if position is None:
        generation = await caller.create(asked)
        position = Position(generation_id=generation.id)
    if position.generation is not None and is_final(position.generation):
        return position.generation
    return await caller.watch_to_the_end(position)


async def _generate_until(caller: Caller, asked: Wish, *, seconds: float | None) -> Position | None:
    """Ask and watch in one call until it ends or the client dies; say how far it came."""
    position: Position | None = None

    async def listen() -> None:
        nonlocal position
        events = caller.generate(asked)
        async with contextlib.aclosing(events):
            async for event in events:
                position = Position(
                    generation_id=event.generation.id, token=event.resume_token, generation=event.generation
                )

    await _until(listen(), seconds=seconds)
    return position


async def _until(work: Coroutine[Any, Any, object], *, seconds: float | None) -> None:
    """Do something, and drop dead in the midst of it when it takes longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work


async def _be_away(caller: Caller) -> None:
    await asyncio.sleep(caller.chance.uniform(*AWAY_SECONDS))


def is_succeeded(generation: Generation) -> bool:
    """Whether its pictures are there."""
    return generation.state == GenerationState.GENERATION_STATE_SUCCEEDED

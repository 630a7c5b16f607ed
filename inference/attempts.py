"""The attempts that a worker holds, and how many more it could."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator

from loguru import logger

from easel.worker.v1.task_pb2 import AttemptRef
from inference.attempt import Attempt
from inference.tasks import cancel_all

#: Attempts that are drawn but not delivered yet, for each slot and at least, beyond which no more are claimed: storage
#: is slower than the device.
MAX_DELIVERING_PER_SLOT = 2
LEAST_MAX_DELIVERING = 4


class Attempts:
    """Runs attempts, each in a task of its own, and drops them on demand.

    One that is to be alone has the worker to itself: from when it is held nothing more is claimed, and it waits until
    the others have ended and every claim is answered. What those bring is handed back. So whatever it does to the
    worker hits nobody else.

    Args:
        slots: Says how many may be drawn at once; whenever that changes, `notice_room` is to be called.
        hand_back: Gives an attempt back at no cost to it.
    """

    def __init__(self, *, slots: Callable[[], int], hand_back: Callable[[AttemptRef], Awaitable[None]]) -> None:
        self._slots = slots
        self._hand_back = hand_back
        self._held: dict[Attempt, asyncio.Task[None]] = {}
        self._reserved = 0
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[Attempt]:
        """Go through the attempts held now."""
        return iter(tuple(self._held))

    def __len__(self) -> int:
        return len(self._held)

    @property
    def slots(self) -> int:
        """How many may be drawn at once; may be asked from any thread."""
        return self._slots()

    @property
    def free_slots(self) -> int:
        """How many more could be claimed now. An attempt frees its slot when its last step is done."""
        if any(attempt.alone for attempt in self):
            return 0
        slots, drawing = self.slots, self.busy_slots
        if len(self._held) - drawing >= max(LEAST_MAX_DELIVERING, MAX_DELIVERING_PER_SLOT * slots):
            return 0
        return max(slots - drawing - self._reserved, 0)

    @property
    def busy_slots(self) -> int:
        """How many are held for drawing; may be asked from any thread."""
        return sum(attempt.needs_slot for attempt in self)

    def notice_room(self) -> None:
        """Look again whether there is a free slot."""
        self._changed.set()

    def reserve(self) -> None:
        """Keep a slot for an attempt that may come of a claim."""
        self._reserved += 1

    def unreserve(self) -> None:
        """Take one reservation back: its claim is answered, and what came of it is held."""
        self._reserved -= 1
        self._changed.set()

    def hold(self, attempt: Attempt) -> None:
        """Start an attempt. An older one of the same generation is obsolete, since only a lost one is followed."""
        self._drop(
            "superseded", which=lambda older: older.generation_id == attempt.generation_id and not older.is_stored
        )
        others = [other for other in self if other.generation_id != attempt.generation_id]
        attempt.on_slot_freed = self._changed.set
        attempt.turn = self._until_alone
        life = self._return(attempt) if any(other.alone for other in others) else attempt.run()
        task = asyncio.create_task(life, name=f"attempt {attempt.generation_id}")
        self._held[attempt] = task
        task.add_done_callback(lambda _task: self._forget(attempt))

    def drop(self, generation_id: str, *, reason: str) -> None:
        """Stop all attempts at a generation after the step in hand; nothing more is said of them."""
        self._drop(reason, which=lambda attempt: attempt.generation_id == generation_id)

    def drop_attempt(self, ref: AttemptRef, *, reason: str) -> None:
        """Stop one attempt after the step in hand, and say nothing more of it, unless its pictures are stored.

        Those are handed in: should they come before those of the attempt that followed, they are taken.
        """
        self._drop(reason, which=lambda attempt: attempt.is_meant_by(ref) and not attempt.is_stored)

    async def wait_for_room(self, stop: asyncio.Event) -> int:
        """Wait until there is a free slot, and return how many there are; 0 when told to stop."""
        while not stop.is_set():
            if free_slots := self.free_slots:
                return free_slots
            self._changed.clear()
            await _first_of(self._changed.wait(), stop.wait())
        return 0

    async def drain(self, *, within_seconds: float) -> None:
        """Wait for the attempts held now to end by themselves."""
        if self._held and within_seconds > 0:
            await asyncio.wait(self._held.values(), timeout=within_seconds)

    async def give_up(self, *, keep_back: Callable[[Attempt], bool]) -> list[AttemptRef]:
        """Stop all attempts, and name those to be handed back."""
        held = dict(self._held)
        returnable = [attempt.ref for attempt in held if not keep_back(attempt)]
        await cancel_all(held.values())
        return returnable

    async def _until_alone(self) -> None:
        while len(self._held) > 1 or self._reserved:
            self._changed.clear()
            await self._changed.wait()

    async def _return(self, attempt: Attempt) -> None:
        """Hand an attempt back instead of starting it; the one that is alone waits for that, too."""
        annotations = {"generation_id": attempt.generation_id, "attempt": attempt.number}
        logger.info("handed back: another one is to be alone here", action="release", **annotations)
        await self._hand_back(attempt.ref)

    def _drop(self, reason: str, *, which: Callable[[Attempt], bool]) -> None:
        for attempt, task in tuple(self._held.items()):
            if which(attempt):
                annotations = {"generation_id": attempt.generation_id, "attempt": attempt.number}
                logger.info("dropped: {}", reason, action="drop", **annotations)
                task.cancel()

    def _forget(self, attempt: Attempt) -> None:
        self._held.pop(attempt, None)
        self._changed.set()


async def _first_of(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

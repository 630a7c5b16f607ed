"""Plays a trace to an engine, and notes what became of each request."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.traces import Arrival
from easel.v1.generation_pb2 import OutputSpec
from inference.engine.engine import Failed, Finished, Phase, PhaseStarted, Pixels, Stepped
from inference.engine.threaded_engine import ThreadedEngine
from inference.pictures import Encoder
from inference.store import ObjectStore


@dataclass(kw_only=True, slots=True)
class Fate:
    """What became of a request. Times are in seconds from the start of the trace."""

    arrival: Arrival
    arrived: float
    #: Each step, and when it was told.
    steps: list[tuple[float, int]] = field(default_factory=list)
    #: When its client gave up.
    cancelled: float | None = None
    #: When its picture was stored, or it had stopped.
    ended: float = 0.0
    finished: bool = False

    @property
    def seconds(self) -> float:
        """How long its client waited."""
        return self.ended - self.arrived

    def rows(self) -> list[tuple[float, int]]:
        """Say when how many rows were done for it."""
        rows, before = [], 0
        for at, step in self.steps:
            rows.append((at, (step - before) * self.arrival.rows))
            before = step
        return rows


class Contest:
    """The client of a contender. What that has no room for waits here, in the order of arrival, as it would in a queue.

    Encoding and storing a picture overlap with drawing others.
    """

    def __init__(self, engine: ThreadedEngine, encoder: Encoder, store: ObjectStore) -> None:
        self._engine = engine
        self._encoder = encoder
        self._store = store
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._in_hand = 0
        self._began = 0.0
        engine.on_slots_changed = self._let_in

    async def play(self, trace: Sequence[Arrival], *, gap_seconds: float) -> list[Fate]:
        """Let requests arrive at their times, whatever becomes of them, and wait until all have ended."""
        self._began = time.monotonic()
        lives = []
        for arrival in trace:
            await asyncio.sleep(max(0.0, self._began + arrival.at * gap_seconds - time.monotonic()))
            lives.append(asyncio.create_task(self._live(arrival)))
        return list(await asyncio.gather(*lives))

    async def _live(self, arrival: Arrival) -> Fate:
        fate = Fate(arrival=arrival, arrived=self._now())
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()
        await turn
        if pixels := await self._draw(fate):
            file = await self._encoder.encode(pixels[0], OutputSpec(), parameters={"prompt": arrival.request.prompt})
            await self._store.put(f"{arrival.request.seed}.{file.extension}", file)
            fate.finished = True
        fate.ended = self._now()
        return fate

    async def _draw(self, fate: Fate) -> Sequence[Pixels]:
        drawing = self._engine.draw(fate.arrival.request)
        needs_slot = True
        pictures: Sequence[Pixels] = ()
        async for event in drawing:
            match event:
                case Stepped(step=step):
                    fate.steps.append((self._now(), step))
                    if step == fate.arrival.cancelled_at_step:
                        fate.cancelled = self._now()
                        drawing.cancel()
                case PhaseStarted(phase=Phase.DECODING):
                    self._free_slot()
                    needs_slot = False
                case Finished():
                    pictures = event.pictures
                case Failed():
                    raise RuntimeError(f"a request failed: {event.message}")
        if needs_slot:
            self._free_slot()
        return pictures

    def _free_slot(self) -> None:
        self._in_hand -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._in_hand < self._engine.slots:
            self._in_hand += 1
            self._waiting.popleft().set_result(None)

    def _now(self) -> float:
        return time.monotonic() - self._began

"""Breaks things on schedule, starts them again, and measures how long it takes until all is well."""

import asyncio
import shutil
from asyncio import Lock, Semaphore, TaskGroup
from collections.abc import Callable, Sequence
from contextlib import suppress

from loguru import logger

from easel.embedded import Stack
from easel.embedded.failure import StackFailed
from easel.embedded.process import READY, Pause, Process
from easel.embedded.services import Worker
from tests.chaos.journal import Fell, Journal, Struck
from tests.chaos.recovery import Recovery
from tests.chaos.schedule import Action, Component, Strike
from tests.scraping import scrape

#: How many things may be broken at the same time.
OVERLAP = 3
#: A process that cannot be started this often is broken for good.
STARTS = 5
LOOK_SECONDS = 0.2


class Nemesis:
    """What breaks things.

    Args:
        stack: What it breaks.
        recovery: Sends the requests that tell when it is mended.
        journal: Where it puts down what it did.
        pace_seconds: The mean pause between two strikes.
        on_strike: Is called with each strike that begins.
    """

    def __init__(
        self,
        stack: Stack,
        recovery: Recovery,
        journal: Journal,
        *,
        pace_seconds: float,
        on_strike: Callable[[Strike], None] = lambda _: None,
    ) -> None:
        self._processes = {Component(process.name): process for process in stack.processes}
        self._nats_store = stack.servers.nats.store
        self._recovery = recovery
        self._journal = journal
        self._pace_seconds = pace_seconds
        self._on_strike = on_strike
        self._locks = {component: Lock() for component in Component}
        self._hands = Semaphore(OVERLAP)
        #: What it began.
        self.strikes: list[Strike] = []

    async def run(self, schedule: Sequence[Strike], *, until: float) -> None:
        """Carry out a schedule, or as much of it as begins before a time on the journal's clock."""
        guard = asyncio.create_task(self._guard())
        try:
            async with TaskGroup() as strikes:
                for strike in schedule:
                    await asyncio.sleep(strike.pause * self._pace_seconds)
                    # Several things may be broken at once, but nothing is broken twice.
                    await self._hands.acquire()
                    await self._locks[strike.component].acquire()
                    if self._journal.now > until:
                        self._put_down(strike)
                        break
                    self.strikes.append(strike)
                    self._on_strike(strike)
                    strikes.create_task(self._strike(strike))
        finally:
            guard.cancel()
            await asyncio.wait([guard])
        guard.cancelled() or guard.result()

    async def _strike(self, strike: Strike) -> None:
        logger.info("{}: {}", strike.number, strike, action="strike")
        process = self._processes[strike.component]
        try:
            await self._blow(strike, process)
            let_go = self._journal.now
            probing = asyncio.create_task(self._recovery.probe(strike))
            await self._mend(strike, process)
            serving_seconds = self._journal.now - let_go
        finally:
            self._put_down(strike)
        self._journal.write(
            Struck(
                number=strike.number,
                component=strike.component,
                action=strike.action,
                outage_seconds=strike.outage_seconds,
                serving_seconds=serving_seconds,
                recovery_seconds=await probing,
            ),
            by="nemesis",
        )

    async def _blow(self, strike: Strike, process: Process) -> None:
        """Break it, and leave it broken for a while."""
        match strike.action:
            case Action.KILL:
                process.kill()
            case Action.RESTART:
                await process.stop()
            case Action.WIPE:
                process.kill()
                shutil.rmtree(self._nats_store, ignore_errors=True)
            case Action.FREEZE:
                process.pause()
        await asyncio.sleep(strike.outage_seconds)

    async def _mend(self, strike: Strike, process: Process) -> None:
        """Let it live again, and wait until it says so itself."""
        if strike.action == Action.FREEZE:
            process.resume()
            if await self._is_back(process):
                return
        else:
            process.kill()
        await self._start(strike.component, process)

    async def _start(self, component: Component, process: Process) -> None:
        for _ in range(STARTS):
            try:
                await _start(process)
            except StackFailed as failure:
                self._fell(component, str(failure))
                process.kill()
            else:
                return
        raise StackFailed(f"{component} could not be started again: {process.log}")

    async def _is_back(self, process: Process) -> bool:
        """Wait until a process that slept serves again; False when it ended instead."""
        pause = Pause()
        while process.is_running:
            if await _serves(process):
                return True
            await pause()
        self._fell(Component(process.name), f"ended with status {process.status} after a pause")
        return False

    async def _guard(self) -> None:
        """Start again what ended by itself, and put that down: nothing should."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for component, process in self._processes.items():
                if self._locks[component].locked() or process.is_running:
                    continue
                async with self._locks[component]:
                    self._fell(component, f"ended with status {process.status}")
                    process.kill()
                    await self._start(component, process)

    def _fell(self, component: Component, problem: str) -> None:
        logger.error("{}: {}", component, problem, action="fell")
        self._journal.write(Fell(component=component, problem=problem), by="nemesis")

    def _put_down(self, strike: Strike) -> None:
        self._locks[strike.component].release()
        self._hands.release()


async def _start(process: Process) -> None:
    if not isinstance(process, Worker):
        return await process.start()
    # Gateways count a worker by its slots for a while after its death: it must be asked itself.
    process.launch()
    pause = Pause()
    while not await _serves(process):
        if not process.is_running:
            raise process.failure(f"ended with status {process.status} before it was ready")
        await pause()
    process.activity = READY
    return None


async def _serves(process: Process) -> bool:
    if not isinstance(process, Worker):
        return await process.is_ready()
    with suppress(Exception):
        async with asyncio.timeout(2):
            return (await scrape(process.metrics_url)).value("easel_bus_connected") == 1
    return False

"""Keeps what the worker holds alive, and lets go of what it holds no more."""

import asyncio
from collections.abc import Callable

from loguru import logger

from easel.bus import REQUEST_TIMEOUT_SECONDS, BusUnavailable
from easel.v1.model_pb2 import Model
from easel.worker.v1.task_pb2 import AttemptRef
from inference.attempts import Attempts
from inference.engine.engine import Engine
from inference.gateways import Gateways

#: After a renewal that nobody answered.
RETRY_SECONDS = 0.5
#: For so many periods an answer is waited for at most. A gateway that dies with a renewal in hand must not cost a
#: lease: another one is asked while there is time.
PATIENCE_PERIODS = 2


class Renewals:
    """Says every few seconds what the worker serves and holds; the first time that makes it known."""

    def __init__(
        self,
        gateways: Gateways,
        attempts: Attempts,
        engine: Engine,
        *,
        model: Model,
        period_seconds: float,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._gateways = gateways
        self._attempts = attempts
        self._engine = engine
        self._model = model
        self._period_seconds = period_seconds
        self._on_answer = on_answer
        self._wake = asyncio.Event()
        self._answered = True
        self._told_slots = 0

    def hasten(self) -> None:
        """Renew now, and not only when it is time: the connection is back, and leases may have run out."""
        self._wake.set()

    def hasten_if_it_matters(self) -> None:
        """Renew now if there are twice as many slots as gateways know of: they send out hints by their number."""
        if self._answered and self._attempts.slots >= 2 * self._told_slots:
            self.hasten()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._wake.clear()
            answered = await self.renew()
            try:
                wait_seconds = self._period_seconds if answered else min(RETRY_SECONDS, self._period_seconds)
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def renew(self) -> bool:
        """Renew once; tell whether a gateway answered."""
        slots = self._attempts.slots
        try:
            response = await self._gateways.renew(
                self._model,
                slots=slots,
                free_slots=self._attempts.free_slots if self._engine.alive else 0,
                attempts=self._renewable(),
                timeout_seconds=min(REQUEST_TIMEOUT_SECONDS, PATIENCE_PERIODS * self._period_seconds),
            )
        except BusUnavailable as error:
            if self._answered:
                logger.warning("no gateway answers: {}", error, action="renew")
            self._answered = False
            return False
        if not self._answered:
            logger.info("a gateway answers again", action="renew")
        self._answered = True
        self._on_answer()
        self._told_slots = slots
        for dropped in response.dropped:
            self._attempts.drop_attempt(dropped, reason="no longer ours")
        return True

    def _renewable(self) -> list[AttemptRef]:
        """Name what is alive: what waits or is drawn lives by the engine, what is delivered lives by itself.

        An attempt in a wedged engine is left out: its lease runs out, and another worker draws it.
        """
        alive = self._engine.alive
        return [attempt.ref for attempt in self._attempts if alive or attempt.engine_phase is None]

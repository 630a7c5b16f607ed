"""A request on its way through an engine: events cross from the engine's thread to the event loop here."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from inference.engine.engine import FINAL_EVENTS, DrawRequest, Event


class Order(Protocol):
    """A request as those see it who draw it."""

    @property
    def request(self) -> DrawRequest:
        """What to draw."""
        ...

    @property
    def taken_at(self) -> float:
        """When it was asked for, in seconds of the monotonic clock."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        ...

    def emit(self, event: Event) -> None:
        """Tell whoever waits for it."""
        ...


class Outbox:
    """Takes events from the engine's thread to the event loop, which is woken once for all that have gathered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[tuple[asyncio.Queue[Event], Event]] = deque()
        self._is_awake = False

    def put(self, queue: "asyncio.Queue[Event]", event: Event) -> None:
        """Put an event into a queue on the event loop, from any thread.

        Raises:
            RuntimeError: the loop is closed.
        """
        self._events.append((queue, event))
        if not self._is_awake:
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._is_awake = False
                raise

    def _deliver(self) -> None:
        # First, so that what comes meanwhile wakes it again.
        self._is_awake = False
        while self._events:
            queue, event = self._events.popleft()
            queue.put_nowait(event)


class ThreadedDrawing:
    """What an engine gives for a request; one reader on the event loop, one writer on the engine's thread."""

    def __init__(self, request: DrawRequest, outbox: Outbox) -> None:
        self.request = request
        #: When it was asked for, in seconds of the monotonic clock.
        self.taken_at = time.monotonic()
        self._outbox = outbox
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._cancelled = threading.Event()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Give the events in order, ending after the final one."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, FINAL_EVENTS):
                return

    def cancel(self) -> None:
        """Stop after the step in hand."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._cancelled.is_set()

    def emit(self, event: Event) -> None:
        """Hand an event to the reader, from any thread."""
        try:
            self._outbox.put(self._events, event)
        except RuntimeError:  # the loop is closed: the process ends, and nobody reads any more
            self._cancelled.set()

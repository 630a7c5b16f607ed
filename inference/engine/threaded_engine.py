"""The engine: a thread that owns the device, and the way in and out of it."""

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable

from loguru import logger

from easel.logs import without_message
from inference.engine.adapter import DeviceLost, Traits
from inference.engine.drawing import Order, Outbox, ThreadedDrawing
from inference.engine.engine import DrawRequest, Phase, PhaseStarted
from inference.engine.loops import Loop
from inference.engine.pulse import Pulse

#: How long a stopping engine waits for the step in hand.
STOP_TIMEOUT_SECONDS = 10.0


class ThreadedEngine:
    """Draws with one model on a thread of its own, which also loads it: the event loop never touches the device.

    Args:
        load: Loads a model, and makes the loop that draws with it; is given the pulse that the loop has to keep up.
    """

    def __init__(self, load: Callable[[Pulse], Loop]) -> None:
        self._load = load
        self._inbox: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._drawings: weakref.WeakSet[ThreadedDrawing] = weakref.WeakSet()
        self._pulse = Pulse()
        self._slots = 1
        self._stopping = False
        #: Called on the event loop when the number of slots has changed.
        self.on_slots_changed: Callable[[], None] = lambda: None
        # A daemon, so that a wedged device cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._started: asyncio.Future[Traits]
        self._loading_ended = threading.Event()

    async def start(self) -> Traits:
        """Load the model, warm it up, and return what it can do.

        Raises:
            Exception: whatever loading raised.
        """
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop)
        self._started = self._loop.create_future()
        self._thread.start()
        return await self._started

    @property
    def alive(self) -> bool:
        """Whether the device answers."""
        return self._thread.is_alive() and self._pulse.steady

    @property
    def slots(self) -> int:
        """How many requests can be drawn at once, those in hand among them."""
        return self._slots

    def draw(self, request: DrawRequest) -> ThreadedDrawing:
        """Take a request; it waits until the step in hand is done, or longer where there is no room."""
        drawing = ThreadedDrawing(request, self._outbox)
        drawing.emit(PhaseStarted(phase=Phase.WAITING))
        self._drawings.add(drawing)
        self._inbox.put(drawing)
        return drawing

    async def stop(self) -> bool:
        """Take nothing more and end the thread after the step in hand; tell whether it has ended.

        Loading cannot be interrupted, and is not waited for.
        """
        for drawing in self._drawings:
            drawing.cancel()
        self._inbox.put(None)
        if self._loading_ended.is_set():
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            loop = self._load(self._pulse)
            traits = loop.warm_up()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits for `start`
            self._end_loading(self._refuse_start, error)
            return
        self._slots = loop.slots
        self._end_loading(self._confirm_start, traits)
        try:
            self._work(loop)
        except DeviceLost:
            # The thread ends here, and with it `alive`. What is in hand gets no final event: it may be what broke the
            # device, and only a lease that runs out counts against it.
            logger.opt(exception=True).critical("the device is lost", action="device_lost")
        except Exception as error:  # noqa: BLE001  # a defect: the thread ends as if the device were lost, and says so
            logger.opt(exception=without_message(error)).critical("a defect ended the engine", action="defect")

    def _work(self, loop: Loop) -> None:
        while self._collect(loop):
            loop.tick()
            self._tell_slots(loop.slots)

    def _collect(self, loop: Loop) -> bool:
        """Take in what has come, and wait for it where there is nothing to do; tell whether there is now."""
        if loop.is_idle and not self._stopping:
            self._pulse.rest()
            self._take(loop, self._inbox.get())
        while not self._inbox.empty():
            self._take(loop, self._inbox.get())
        return not (self._stopping and loop.is_idle)

    def _take(self, loop: Loop, order: Order | None) -> None:
        if order is None:
            self._stopping = True
        else:
            loop.take(order)

    def _tell_slots(self, slots: int) -> None:
        if slots == self._slots:
            return
        self._slots = slots
        self._call(self._notice_slots)

    def _notice_slots(self) -> None:
        self.on_slots_changed()

    def _confirm_start(self, traits: Traits) -> None:
        if not self._started.done():
            self._started.set_result(traits)

    def _refuse_start(self, error: BaseException) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    def _end_loading(self, callback: Callable[..., None], outcome: object) -> None:
        self._loading_ended.set()
        self._call(callback, outcome)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call something, from the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            logger.debug("the event loop closed before the engine", action="engine_end")

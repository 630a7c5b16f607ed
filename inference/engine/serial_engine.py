"""The engine of today: one request at a time, in the order of arrival."""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable

from loguru import logger

from easel.logs import without_message
from inference.engine.adapter import DeviceLost, InvalidOutput, ModelAdapter, OutOfMemory, Sketch, Traits
from inference.engine.engine import (
    FINAL_EVENTS,
    DrawRequest,
    Event,
    Failed,
    FailureKind,
    Finished,
    Phase,
    PhaseStarted,
    Pixels,
    Previewed,
    Stepped,
    Stopped,
)
from inference.engine.pulse import Pulse

#: A prompt or a picture that takes longer than this will not come at all.
ENCODING_LIMIT_SECONDS = 300.0
DECODING_LIMIT_SECONDS = 600.0
#: The first step may compile kernels.
FIRST_STEP_LIMIT_SECONDS = 600.0
#: A later step may take this many times the slowest so far, and never less than the floor.
STEP_LIMIT_FACTOR = 5.0
STEP_LIMIT_FLOOR_SECONDS = 30.0
#: At least so long lies between two previews of a request.
PREVIEW_INTERVAL_SECONDS = 0.25
#: How long a stopping engine waits for the step in hand.
STOP_TIMEOUT_SECONDS = 10.0


class SerialEngine:
    """Draws with one adapter on a thread of its own, which also loads it: the event loop never touches the device."""

    def __init__(self, load: Callable[[], ModelAdapter]) -> None:
        self._load = load
        self._waiting: queue.SimpleQueue[SerialDrawing | None] = queue.SimpleQueue()
        self._pulse = Pulse()
        self._in_hand: SerialDrawing | None = None
        # A daemon, so that a wedged device cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loaded: asyncio.Future[Traits]
        self._loading_ended = threading.Event()

    async def start(self) -> Traits:
        """Load the model, warm it up, and return what it can do.

        Raises:
            Exception: whatever loading raised.
        """
        self._loop = asyncio.get_running_loop()
        self._loaded = self._loop.create_future()
        self._thread.start()
        return await self._loaded

    @property
    def alive(self) -> bool:
        """Whether the device answers."""
        return self._thread.is_alive() and self._pulse.steady

    def draw(self, request: DrawRequest) -> "SerialDrawing":
        """Take a request; it waits until those before it are done."""
        drawing = SerialDrawing(request, self._loop)
        drawing.emit(PhaseStarted(phase=Phase.WAITING))
        self._waiting.put(drawing)
        return drawing

    async def stop(self) -> bool:
        """Take nothing more and end the thread after the step in hand; tell whether it has ended.

        Loading cannot be interrupted, and is not waited for.
        """
        self._waiting.put(None)
        if in_hand := self._in_hand:
            in_hand.cancel()
        if self._loading_ended.is_set():
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            adapter = self._load()
            adapter.warm_up()
            traits = adapter.traits
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits for `start`
            self._end_loading(self._refuse_start, error)
            return
        self._end_loading(self._confirm_start, traits)
        while (drawing := self._waiting.get()) is not None:
            self._in_hand = drawing
            try:
                drawing.emit(self._outcome(adapter, drawing))
            except DeviceLost:
                # The thread ends here, and with it `alive`. The drawing gets no final event: it may be the one that
                # broke the device, and only a lease that runs out counts against it.
                logger.opt(exception=True).critical("the device is lost", action="device_lost")
                return
            finally:
                self._in_hand = None
                self._pulse.rest()

    def _outcome(self, adapter: ModelAdapter, drawing: "SerialDrawing") -> Event:
        try:
            return _Painting(adapter, drawing, self._pulse).paint()
        except _Cancelled:
            return Stopped()
        except DeviceLost:
            raise
        except (OutOfMemory, MemoryError) as error:
            return Failed(kind=FailureKind.OUT_OF_MEMORY, message=_sentence(error, "the device ran out of memory"))
        except InvalidOutput as error:
            return Failed(kind=FailureKind.INVALID_OUTPUT, message=_sentence(error, "the picture is not a number"))
        except Exception as error:  # noqa: BLE001  # the model's code may raise anything; it fails its own request only
            logger.opt(exception=without_message(error)).warning("the model failed on a request", action="draw_failed")
            return Failed(kind=FailureKind.MODEL_ERROR, message=f"{type(error).__name__}: {_sentence(error, '')}")

    def _confirm_start(self, traits: Traits) -> None:
        if not self._loaded.done():
            self._loaded.set_result(traits)

    def _refuse_start(self, error: BaseException) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(error)

    def _end_loading(self, callback: Callable[..., None], outcome: object) -> None:
        self._loading_ended.set()
        try:
            self._loop.call_soon_threadsafe(callback, outcome)
        except RuntimeError:
            logger.debug("the event loop closed before the model was loaded", action="engine_start")


class SerialDrawing:
    """A request on its way through the engine; events cross from the engine's thread to the event loop here."""

    def __init__(self, request: DrawRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.taken_at = time.monotonic()
        self._loop = loop
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
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: the process ends, and nobody reads any more
            self._cancelled.set()


class _Cancelled(Exception):
    """Raised out of a step, since it stops any pipeline right there."""


class _Painting:
    """The way of one request over the device.

    Its pictures are drawn one after the other, each exactly as a request for it alone would be: in a batch, matrix
    products of another shape would round differently, and memory would grow with the count.
    """

    def __init__(self, adapter: ModelAdapter, drawing: SerialDrawing, pulse: Pulse) -> None:
        self._adapter = adapter
        self._drawing = drawing
        self._request = drawing.request
        self._pulse = pulse
        self._phase = Phase.WAITING
        self._phase_started = drawing.taken_at
        self._phase_seconds: dict[Phase, float] = {}
        self._steps_done = 0
        self._step_started = 0.0
        self._slowest_step_seconds = 0.0
        self._next_preview_at = float("-inf") if drawing.request.preview_every_steps else float("inf")

    def paint(self) -> Finished:
        """Draw all pictures of the request."""
        self._enter(Phase.ENCODING, limit_seconds=ENCODING_LIMIT_SECONDS)
        conditioning = self._adapter.encode(self._request)
        self._enter(Phase.DENOISING, limit_seconds=FIRST_STEP_LIMIT_SECONDS)
        latents = [self._denoise(index, conditioning) for index in range(self._request.image_count)]
        self._enter(Phase.DECODING, limit_seconds=DECODING_LIMIT_SECONDS)
        pictures = tuple(self._decode(one) for one in latents)
        self._close_phase()
        return Finished(pictures=pictures, phase_seconds=self._phase_seconds)

    def _denoise(self, index: int, conditioning: object) -> object:
        self._step_started = time.monotonic()
        return self._adapter.denoise(
            self._request,
            conditioning,
            seed=self._request.seed + index,
            on_evaluation=lambda *evaluation: self._on_evaluation(index, *evaluation),
        )

    def _on_evaluation(self, index: int, done: int, evaluations: int, sketch: Sketch) -> None:
        """Count steps as the client asked for them: some schedulers evaluate the model more often than they step."""
        self._check_cancelled()
        steps = self._request.steps
        step = index * steps + done * steps // evaluations
        if step > self._steps_done:
            self._step_to(step)
            if done < evaluations and self._is_preview_due(step - index * steps):
                self._preview(index, sketch)
        self._pulse.expect(within_seconds=max(STEP_LIMIT_FLOOR_SECONDS, STEP_LIMIT_FACTOR * self._slowest_step_seconds))

    def _step_to(self, step: int) -> None:
        now = time.monotonic()
        seconds, self._step_started = now - self._step_started, now
        self._steps_done = step
        self._slowest_step_seconds = max(self._slowest_step_seconds, seconds)
        self._drawing.emit(Stepped(step=step, steps=self._request.steps * self._request.image_count, seconds=seconds))

    def _is_preview_due(self, step_of_picture: int) -> bool:
        return time.monotonic() >= self._next_preview_at and step_of_picture % self._request.preview_every_steps == 0

    def _preview(self, index: int, sketch: Sketch) -> None:
        self._next_preview_at = time.monotonic() + PREVIEW_INTERVAL_SECONDS
        try:
            pixels = self._adapter.preview(sketch)
        except DeviceLost:
            raise
        except Exception:  # noqa: BLE001  # a picture is worth more than its previews
            logger.opt(exception=True).warning("a request goes on without previews", action="preview_failed")
            self._next_preview_at = float("inf")
            return
        if pixels is not None:
            self._drawing.emit(Previewed(image_index=index, step=self._steps_done, pixels=pixels))

    def _decode(self, latents: object) -> Pixels:
        self._check_cancelled()
        self._pulse.expect(within_seconds=DECODING_LIMIT_SECONDS)
        return self._adapter.decode(latents)

    def _enter(self, phase: Phase, *, limit_seconds: float) -> None:
        self._check_cancelled()
        self._close_phase()
        self._phase, self._phase_started = phase, time.monotonic()
        self._pulse.expect(within_seconds=limit_seconds)
        self._drawing.emit(PhaseStarted(phase=phase))

    def _close_phase(self) -> None:
        self._phase_seconds[self._phase] = time.monotonic() - self._phase_started

    def _check_cancelled(self) -> None:
        if self._drawing.cancelled:
            raise _Cancelled


def _sentence(error: BaseException, otherwise: str) -> str:
    return str(error).strip().split("\n")[0][:300] or otherwise

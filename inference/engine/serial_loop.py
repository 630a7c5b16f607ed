"""The doings of an engine that cannot batch: one request after the other, each drawn as a whole."""

import time
from collections import deque

from inference.engine.adapter import MEMORY_ERRORS, DeviceLost, Traits, WholeAdapter
from inference.engine.drawing import Order
from inference.engine.engine import Event, Finished, Phase, PhaseStarted, Pixels, Stepped, Stopped
from inference.engine.failures import failed
from inference.engine.observer import UNOBSERVED, Observer, Work
from inference.engine.pulse import Pulse


class SerialLoop:
    """Draws requests in the order of their arrival."""

    #: A second request would wait here while another worker may be idle. The device still does not wait: a slot is free
    #: again once a picture is drawn, and the next request is claimed while the one before is encoded and uploaded.
    slots = 1

    def __init__(self, adapter: WholeAdapter, pulse: Pulse, *, observer: Observer = UNOBSERVED) -> None:
        self._adapter = adapter
        self._observer = observer
        self._pulse = pulse
        self._waiting: deque[Order] = deque()

    def warm_up(self) -> Traits:
        """Prepare the model."""
        self._adapter.warm_up()
        return self._adapter.traits

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting

    def take(self, order: Order) -> None:
        """Take in a request; it is drawn when those before it are."""
        self._waiting.append(order)

    def tick(self) -> None:
        """Draw the request that has waited longest.

        Raises:
            DeviceLost: nothing can be drawn any more.
        """
        order = self._waiting.popleft()
        started = time.monotonic()
        outcome = self._outcome(order)
        # A pipeline called as a whole does not tell its doings apart.
        self._observer.work(Work.DENOISING, seconds=time.monotonic() - started)
        order.emit(outcome)

    def _outcome(self, order: Order) -> Event:
        try:
            return _Painting(self._adapter, order, self._pulse, self._observer).paint()
        except _Cancelled:
            return Stopped()
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001  # the model's code may raise anything; it fails its own request only
            if isinstance(error, MEMORY_ERRORS):
                self._observer.out_of_memory()
            return failed(error)


class _Cancelled(Exception):
    """Raised out of a step, since it stops any pipeline right there."""


class _Painting:
    """The way of one request over the device.

    Its pictures are drawn one after the other, each exactly as a request for it alone would be: in a batch, matrix
    products of another shape would round differently, and memory would grow with the count.
    """

    def __init__(self, adapter: WholeAdapter, order: Order, pulse: Pulse, observer: Observer) -> None:
        self._adapter = adapter
        self._order = order
        self._request = order.request
        self._pulse = pulse
        self._observer = observer
        self._steps_done = 0
        self._step_started = 0.0
        self._slowest_step_seconds = 0.0

    def paint(self) -> Finished:
        """Draw all pictures of the request."""
        started = time.monotonic()
        phase_seconds = {Phase.WAITING: started - self._order.taken_at}
        self._check_cancelled()
        self._order.emit(PhaseStarted(phase=Phase.DENOISING))
        pictures = tuple(self._draw(index) for index in range(self._request.image_count))
        phase_seconds[Phase.DENOISING] = time.monotonic() - started
        return Finished(pictures=pictures, phase_seconds=phase_seconds)

    def _draw(self, index: int) -> Pixels:
        self._pulse.expect_step(known_seconds=self._slowest_step_seconds)
        self._step_started = time.monotonic()
        return self._adapter.draw(
            self._request,
            seed=self._request.seed + index,
            on_evaluation=lambda done, evaluations: self._on_evaluation(index, done, evaluations),
        )

    def _on_evaluation(self, index: int, done: int, evaluations: int) -> None:
        """Count steps as the client asked for them: some schedulers evaluate the model more often than they step."""
        self._check_cancelled()
        step = index * self._request.steps + done * self._request.steps // evaluations
        if step > self._steps_done:
            self._step_to(step)
        if done < evaluations:
            self._pulse.expect_step(known_seconds=self._slowest_step_seconds)
        else:
            self._pulse.expect_decoding()

    def _step_to(self, step: int) -> None:
        now = time.monotonic()
        seconds, self._step_started = now - self._step_started, now
        self._steps_done = step
        self._slowest_step_seconds = max(self._slowest_step_seconds, seconds)
        self._observer.step(seconds=seconds)
        self._order.emit(Stepped(step=step, steps=self._request.steps * self._request.image_count, seconds=seconds))

    def _check_cancelled(self) -> None:
        if self._order.cancelled:
            raise _Cancelled

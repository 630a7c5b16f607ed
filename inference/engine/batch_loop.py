"""The doings of the batching engine, one tick after another: who joins, one step of a batch, what is finished.

It knows no thread and no torch: what is done on the device is the adapter's, and time is that of the clock given.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from loguru import logger

from inference.engine.adapter import MEMORY_ERRORS, DeviceLost, Prediction, SampleState, StepAdapter, Traits
from inference.engine.buckets import Buckets
from inference.engine.cost_model import TRUSTED_STEPS, CostModel
from inference.engine.drawing import Order
from inference.engine.engine import Event, Phase, Pixels, Stopped
from inference.engine.failures import failed
from inference.engine.job import Job, Sample
from inference.engine.observer import UNOBSERVED, Observer, Work
from inference.engine.pulse import Pulse
from inference.engine.room import Room

#: While others are denoised, what is finished waits at most so long to be decoded with more of its kind.
DECODE_PATIENCE_SECONDS = 0.1
#: So many are decoded at once: a decoder takes far more memory than a step.
DECODED_AT_ONCE = 4
#: At least so long lies between two previews of a picture.
PREVIEW_INTERVAL_SECONDS = 0.25
#: Before anything is drawn, steps are measured for about so long.
MEASURING_SECONDS = 1.0


class BatchLoop:
    """Draws many requests at once; each joins at the next tick, and leaves when its own last step is done.

    Whatever becomes of one request, its neighbours in a batch come out the same: a picture changes only after its batch
    was evaluated without an error, each has its own scheduler and generator, and after an error the batch is taken
    apart until what failed is alone.
    """

    def __init__(
        self,
        adapter: StepAdapter,
        costs: CostModel,
        pulse: Pulse,
        *,
        observer: Observer = UNOBSERVED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._adapter = adapter
        self._observer = observer
        self._costs = costs
        self._pulse = pulse
        self._clock = clock
        self._room = Room(costs)
        self._waiting: deque[Job] = deque()
        #: Those that were admitted; in the order of their arrival, as all dictionaries.
        self._jobs: dict[Job, None] = {}
        self._buckets: Buckets[Sample] = Buckets(costs)
        #: Denoised, and not decoded yet.
        self._denoised: list[Sample] = []
        #: Where memory did not suffice for the usual number.
        self._decoded_at_once: dict[Hashable, int] = {}

    def warm_up(self) -> Traits:
        """Prepare the model, and learn what steps of the default shape cost, with one row and with more."""
        self._adapter.warm_up()
        traits = self._adapter.traits
        request = traits.default_request()
        conditioning = self._adapter.encode(request)
        state = self._adapter.begin(request, conditioning, seed=0)
        self._room.note(state.key, state.rows)
        self._measure(state, lambda: self._adapter.begin(request, conditioning, seed=0))
        self._adapter.tune()
        return traits

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._jobs

    @property
    def slots(self) -> int:
        """How many requests can be drawn at once, those in hand among them."""
        drawing = sum(not job.is_denoised for job in self._jobs)
        samples = [sample for job in self._jobs for sample in job.samples if not sample.is_denoised]
        return len(self._waiting) + drawing + self._room.left(samples, waiting=len(self._waiting))

    def take(self, order: Order) -> None:
        """Take in a request; it joins at the next tick."""
        self._waiting.append(Job(order, arrived=order.taken_at))

    def tick(self) -> None:
        """Do one round: let leave who was cancelled, admit, take one batch a step on, and decode.

        Raises:
            DeviceLost: nothing can be done any more, for nobody.
        """
        self._drop_cancelled()
        self._admit()
        stepped = self._step()
        self._decode(at_once=not stepped)

    def _drop_cancelled(self) -> None:
        for job in [*self._waiting, *self._jobs]:
            if job.order.cancelled:
                self._end(job, Stopped())

    def _admit(self) -> None:
        """Encode the prompts of who came last time round, and let them join."""
        while self._waiting:
            job = self._waiting.popleft()
            self._jobs[job] = None
            try:
                self._begin(job)
            except DeviceLost:
                raise
            except Exception as error:  # noqa: BLE001  # the model's code may raise anything
                self._end(job, failed(error))

    def _begin(self, job: Job) -> None:
        job.enter(Phase.ENCODING, self._clock())
        self._pulse.expect_encoding()
        started = self._clock()
        request = job.order.request
        conditioning = self._adapter.encode(request)
        samples = [
            Sample(job, index, self._adapter.begin(request, conditioning, seed=request.seed + index))
            for index in range(request.image_count)
        ]
        self._observer.work(Work.ENCODING, seconds=self._clock() - started)
        job.enter(Phase.DENOISING, self._clock())
        job.samples = samples
        for sample in samples:
            self._buckets.add(sample)
        self._room.note(samples[0].key, sum(sample.rows for sample in samples))

    def _step(self) -> bool:
        """Take the batch whose turn it is a step on; tell whether there was one."""
        batch = self._buckets.choose(self._clock())
        if batch is None:
            return False
        started = self._clock()
        self._evaluate(batch.members, observe=True)
        self._buckets.charge(batch.key, self._clock() - started)
        self._tell(batch.members)
        self._show(batch.members)
        return True

    def _evaluate(self, samples: Sequence[Sample], *, observe: bool = False) -> None:
        """Evaluate and advance; halves are tried one after the other where that fails, down to who fails alone."""
        key, rows = samples[0].key, sum(sample.rows for sample in samples)
        started = self._clock()
        self._pulse.expect_step(known_seconds=self._costs.seconds(key, rows))
        try:
            predictions = self._adapter.evaluate([sample.state for sample in samples])
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001  # the model's code may raise anything
            self._observer.work(Work.DENOISING, seconds=self._clock() - started)
            self._take_apart(samples, error)
            return
        for sample, prediction in zip(samples, predictions, strict=True):
            if self._is_in_hand(sample):
                self._advance(sample, prediction)
        # Only here, so that a device that works on its own is told all at once.
        self._adapter.wait()
        seconds = self._clock() - started
        self._observer.batch(rows=rows, paying_rows=self._costs.cap(key))
        self._observer.step(seconds=seconds)
        self._observer.work(Work.DENOISING, seconds=seconds)
        if observe:
            self._costs.observe(key, rows, seconds)

    def _take_apart(self, samples: Sequence[Sample], error: Exception) -> None:
        if isinstance(error, MEMORY_ERRORS):
            self._observer.out_of_memory()
            self._costs.halve(samples[0].key, sum(sample.rows for sample in samples))
        if len(samples) == 1:
            self._end(samples[0].job, failed(error))
            return
        middle = len(samples) // 2
        for half in (samples[:middle], samples[middle:]):
            if left := [sample for sample in half if self._is_in_hand(sample)]:
                self._evaluate(left)

    def _is_in_hand(self, sample: Sample) -> bool:
        """Whether its request has not ended yet: another of its pictures may just have failed."""
        return sample.job in self._jobs

    def _advance(self, sample: Sample, prediction: Prediction) -> None:
        try:
            self._adapter.advance(sample.state, prediction)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001  # the scheduler's code may raise anything
            self._end(sample.job, failed(error))
            return
        sample.done += 1
        if sample.is_denoised:
            self._buckets.remove(sample)
            self._denoised.append(sample)
            sample.denoised_at = self._clock()

    def _tell(self, samples: Sequence[Sample]) -> None:
        """Tell of a step to those it was done for."""
        for job in {sample.job: None for sample in samples if self._is_in_hand(sample)}:
            job.tell_steps(self._clock())
            if job.is_denoised:
                job.enter(Phase.DECODING, self._clock())

    def _show(self, samples: Sequence[Sample]) -> None:
        """Show pictures on their way to those who asked for that."""
        for sample in samples:
            if self._is_in_hand(sample):
                self._preview(sample)

    def _preview(self, sample: Sample) -> None:
        if not sample.is_worth_showing or self._clock() < sample.next_preview_at:
            return
        sample.shown_steps = sample.steps
        sample.next_preview_at = self._clock() + PREVIEW_INTERVAL_SECONDS
        try:
            pixels = self._adapter.preview(sample.state)
        except DeviceLost:
            raise
        except Exception:  # noqa: BLE001  # a picture is worth more than its previews
            logger.opt(exception=True).warning("a picture goes on without previews", action="preview_failed")
            sample.next_preview_at = float("inf")
            return
        if pixels is not None:
            sample.job.show(sample, pixels)

    def _decode(self, *, at_once: bool) -> None:
        """Decode what has waited for long enough; where there is nothing to denoise, what has waited longest."""
        while self._denoised:
            first = self._denoised[0]
            if not at_once and self._clock() < first.denoised_at + DECODE_PATIENCE_SECONDS:
                return
            at_once = False
            most = self._decoded_at_once.get(first.key, DECODED_AT_ONCE)
            chosen = [sample for sample in self._denoised if _go_together(sample, first)][:most]
            self._denoised = [sample for sample in self._denoised if sample not in chosen]
            self._decode_together(chosen)

    def _decode_together(self, samples: Sequence[Sample]) -> None:
        self._pulse.expect_decoding()
        started = self._clock()
        try:
            pictures = self._adapter.decode([sample.state for sample in samples])
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001  # the model's code may raise anything
            if len(samples) == 1:
                self._end(samples[0].job, failed(error))
                return
            if isinstance(error, MEMORY_ERRORS):
                self._observer.out_of_memory()
                self._decoded_at_once[samples[0].key] = len(samples) // 2
            for sample in samples:
                if self._is_in_hand(sample):
                    self._decode_together([sample])
            return
        self._observer.work(Work.DECODING, seconds=self._clock() - started)
        for sample, pixels in zip(samples, pictures, strict=True):
            self._keep(sample, pixels)

    def _keep(self, sample: Sample, pixels: Pixels) -> None:
        job = sample.job
        job.pictures[sample.index] = pixels
        if len(job.pictures) == len(job.samples):
            self._end(job, job.finish(self._clock()))

    def _end(self, job: Job, event: Event) -> None:
        """Let a request leave with its last event, from wherever it is."""
        if job in self._jobs:
            del self._jobs[job]
        else:
            self._waiting.remove(job)
        for sample in job.samples:
            if not sample.is_denoised:
                self._buckets.remove(sample)
            elif sample in self._denoised:
                self._denoised.remove(sample)
        job.order.emit(event)

    def _measure(self, state: SampleState, another: Callable[[], SampleState]) -> None:
        """Evaluate the model for one picture, and for more of its kind as long as that pays, and note the times."""
        until = self._clock() + MEASURING_SECONDS
        states, more = [], 1
        try:
            while more > 0:
                states += [another() for _ in range(more)]
                rows = len(states) * state.rows
                seconds = self._time(states, until=until)
                # As often as it takes to be trusted: it was warmed up, and nothing disturbed it.
                for _ in range(TRUSTED_STEPS):
                    self._costs.observe(state.key, rows, seconds)
                more = self._costs.cap(state.key) // state.rows - len(states) if self._clock() < until else 0
        except MEMORY_ERRORS:
            self._costs.halve(state.key, len(states) * state.rows)

    def _time(self, states: Sequence[SampleState], *, until: float) -> float:
        """Time an evaluation; a second one where there is time for it, since the first has to warm up."""
        seconds = self._time_once(states)
        return self._time_once(states) if self._clock() < until else seconds

    def _time_once(self, states: Sequence[SampleState]) -> float:
        started = self._clock()
        self._pulse.expect_step(known_seconds=0)
        self._adapter.evaluate(states)
        self._adapter.wait()
        return self._clock() - started


def _go_together(sample: Sample, first: Sample) -> bool:
    """Whether two pictures may be decoded in one batch."""
    return sample.key == first.key and (sample.job is first.job or not (sample.alone or first.alone))

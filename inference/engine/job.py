"""A request on its way through the batching loop, and each of its pictures."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from inference.engine.adapter import SampleState
from inference.engine.drawing import Order
from inference.engine.engine import Finished, Phase, PhaseStarted, Pixels, Previewed, Stepped


@dataclass(eq=False, slots=True)
class Job:
    """A request, from when it came until its last event. Times are in seconds, of the loop's clock."""

    order: Order
    arrived: float
    samples: "list[Sample]" = field(default_factory=list)
    #: Those that are done, by their index.
    pictures: dict[int, Pixels] = field(default_factory=dict)
    _phase: Phase = Phase.WAITING
    _phase_started: float = 0.0
    _phase_seconds: dict[Phase, float] = field(default_factory=dict)
    _steps_told: int = 0
    _stepped_at: float = 0.0

    def __post_init__(self) -> None:
        self._phase_started = self.arrived

    @property
    def is_denoised(self) -> bool:
        """Whether all steps of all its pictures are done."""
        return bool(self.samples) and all(sample.is_denoised for sample in self.samples)

    def enter(self, phase: Phase, now: float) -> None:
        """Begin a phase, and tell."""
        self._close_phase(now)
        self._phase = phase
        self._stepped_at = now
        self.order.emit(PhaseStarted(phase=phase))

    def tell_steps(self, now: float) -> None:
        """Tell how far it has come, if that is any further."""
        done = sum(sample.steps for sample in self.samples)
        if done == self._steps_told:
            return
        seconds = (now - self._stepped_at) / (done - self._steps_told)
        self._steps_told, self._stepped_at = done, now
        steps = self.order.request.steps * len(self.samples)
        self.order.emit(Stepped(step=done, steps=steps, seconds=seconds))

    def show(self, sample: "Sample", pixels: Pixels) -> None:
        """Tell how one of its pictures stands."""
        self.order.emit(Previewed(image_index=sample.index, step=self._steps_told, pixels=pixels))

    def finish(self, now: float) -> Finished:
        """Make its last event, all pictures being there."""
        self._close_phase(now)
        pictures = tuple(self.pictures[index] for index in sorted(self.pictures))
        return Finished(pictures=pictures, phase_seconds=self._phase_seconds)

    def _close_phase(self, now: float) -> None:
        self._phase_seconds[self._phase] = now - self._phase_started
        self._phase_started = now


@dataclass(eq=False, slots=True)
class Sample:
    """One picture of a request, from its noise to its pixels."""

    job: Job
    index: int
    state: SampleState
    #: How often the model was evaluated for it.
    done: int = 0
    #: When its last step was done.
    denoised_at: float = 0.0
    #: How many steps were done when it was last shown.
    shown_steps: int = 0
    #: Before which it is not shown again.
    next_preview_at: float = float("-inf")

    @property
    def key(self) -> Hashable:
        """What it shares with those that fit into its batch."""
        return self.state.key

    @property
    def rows(self) -> int:
        """How many rows of a batch it takes."""
        return self.state.rows

    @property
    def evaluations(self) -> int:
        """How many batches it has to be in."""
        return self.state.evaluations

    @property
    def arrived(self) -> float:
        """When its request came."""
        return self.job.arrived

    @property
    def alone(self) -> bool:
        """Whether no other may be in its batch."""
        return self.job.order.request.alone

    @property
    def is_denoised(self) -> bool:
        """Whether all its steps are done."""
        return self.done == self.evaluations

    @property
    def remaining(self) -> int:
        """How many more batches it has to be in."""
        return self.evaluations - self.done

    @property
    def steps(self) -> int:
        """How many steps are done, as the client counts them: some schedulers evaluate the model more often."""
        return self.done * self.job.order.request.steps // self.evaluations

    @property
    def is_worth_showing(self) -> bool:
        """Whether its client asked to see it after so many steps, and has not."""
        every_steps = self.job.order.request.preview_every_steps
        is_new = self.shown_steps < self.steps and not self.is_denoised
        return bool(every_steps) and is_new and self.steps % every_steps == 0

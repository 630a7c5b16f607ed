"""Tells how far an attempt has come: one report per step, change of phase and preview, best effort."""

import time

from google.protobuf.duration_pb2 import Duration

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_messages_pb2 import Preview
from easel.v1.generation_pb2 import Phase, Progress
from easel.worker.v1.progress_pb2 import ProgressReport
from inference.engine.engine import Stepped

#: Steps that come faster than this are not all reported; the next phase reports the last one.
MIN_INTERVAL_SECONDS = 0.005
#: How much the latest value counts in a smoothed mean.
SMOOTHING = 0.3


class SmoothedMean:
    """A mean in which what is recent counts most; 0 until something is known."""

    def __init__(self) -> None:
        self.value = 0.0
        self._known = False

    def add(self, value: float) -> None:
        """Take in one more value."""
        self.value = (1 - SMOOTHING) * self.value + SMOOTHING * value if self._known else value
        self._known = True


class Estimate:
    """Says how long an attempt will still take, from how long its steps took of late.

    In a batch that others join and leave a step may take longer or shorter than the one before; and each shape has its
    turn. So only what this attempt went through itself counts, turns of others and all.

    Args:
        pictures: How many there are to be.
        picture_seconds: How long this worker needs at present from the last step to the stored file, for each.
    """

    def __init__(self, *, pictures: int, picture_seconds: SmoothedMean) -> None:
        self.step_seconds = SmoothedMean()
        self._pictures = pictures
        self._picture_seconds = picture_seconds

    def after(self, event: Stepped) -> float:
        """Take in a step, and estimate what remains until the pictures are stored, in seconds."""
        self.step_seconds.add(event.seconds)
        return (event.steps - event.step) * self.step_seconds.value + self._pictures * self._picture_seconds.value


class ProgressReporter:
    """Reports on one attempt, which `claim_id` made; `steps` is for all its pictures together."""

    def __init__(
        self,
        bus: Bus,
        *,
        generation_id: str,
        attempt: int,
        claim_id: str,
        steps: int,
        estimate: Estimate,
    ) -> None:
        self._bus = bus
        self._generation_id = generation_id
        self._claim_id = claim_id
        self._sequence = 0
        self._progress = Progress(attempt=attempt, steps=steps)
        self._estimate = estimate
        self._sent_at = float("-inf")

    async def enter(self, phase: "Phase.ValueType") -> None:
        """Report a change of phase."""
        self._progress.phase = phase
        if phase != Phase.PHASE_DENOISING:
            self._progress.ClearField("eta")
        await self._send()

    async def stepped(self, event: Stepped) -> None:
        """Report a step, unless another was reported a moment ago."""
        self._progress.step = event.step
        self._progress.steps = event.steps
        self._progress.eta.CopyFrom(_duration(self._estimate.after(event)))
        self._progress.step_seconds = self._estimate.step_seconds.value
        if time.monotonic() - self._sent_at >= MIN_INTERVAL_SECONDS:
            await self._send()

    async def show(self, preview: Preview) -> None:
        """Report what a picture looks like by now, along with how far the attempt has come."""
        preview.attempt = self._progress.attempt
        await self._send(preview)

    async def _send(self, preview: Preview | None = None) -> None:
        self._sequence += 1
        self._sent_at = time.monotonic()
        report = ProgressReport(
            generation_id=self._generation_id,
            sequence=self._sequence,
            progress=self._progress,
            preview=preview,
            claim_id=self._claim_id,
        )
        await self._bus.tell(subjects.progress(self._generation_id), report)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))

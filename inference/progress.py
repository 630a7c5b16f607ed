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


class ProgressReporter:
    """Reports on one attempt, which `claim_id` made.

    `picture_seconds` is how long this worker needs at present from the last step to the stored file, for each of the
    attempt's `pictures`; `steps` is for all of them together.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        generation_id: str,
        attempt: int,
        claim_id: str,
        steps: int,
        pictures: int,
        picture_seconds: SmoothedMean,
    ) -> None:
        self._bus = bus
        self._generation_id = generation_id
        self._claim_id = claim_id
        self._sequence = 0
        self._progress = Progress(attempt=attempt, steps=steps)
        self._step_seconds = SmoothedMean()
        self._pictures = pictures
        self._picture_seconds = picture_seconds
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
        self._step_seconds.add(event.seconds)
        self._progress.step_seconds = self._step_seconds.value
        steps_seconds = (event.steps - event.step) * self._step_seconds.value
        self._progress.eta.CopyFrom(_duration(steps_seconds + self._pictures * self._picture_seconds.value))
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

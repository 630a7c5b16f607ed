"""Tells how far an attempt has come: one report per step and per change of phase, best effort."""

import time

from google.protobuf.duration_pb2 import Duration

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_pb2 import Phase, Progress
from easel.worker.v1.progress_pb2 import ProgressReport
from inference.engine.engine import Stepped

#: Steps that come faster than this are not all reported; the next phase reports the last one.
MIN_INTERVAL_SECONDS = 0.005
#: How much the latest step counts in the smoothed time of a step.
SMOOTHING = 0.3


class ProgressReporter:
    """Reports on one attempt."""

    def __init__(self, bus: Bus, *, generation_id: str, attempt: int, steps: int) -> None:
        self._bus = bus
        self._generation_id = generation_id
        self._sequence = 0
        self._progress = Progress(attempt=attempt, steps=steps)
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
        self._progress.step_seconds = self._smooth(event.seconds)
        self._progress.eta.CopyFrom(_duration((event.steps - event.step) * self._progress.step_seconds))
        if time.monotonic() - self._sent_at >= MIN_INTERVAL_SECONDS:
            await self._send()

    def _smooth(self, seconds: float) -> float:
        if not self._progress.HasField("step_seconds"):
            return seconds
        return (1 - SMOOTHING) * self._progress.step_seconds + SMOOTHING * seconds

    async def _send(self) -> None:
        self._sequence += 1
        self._sent_at = time.monotonic()
        report = ProgressReport(generation_id=self._generation_id, sequence=self._sequence, progress=self._progress)
        await self._bus.tell(subjects.progress(self._generation_id), report)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))

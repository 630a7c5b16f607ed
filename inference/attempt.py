"""The life of one claimed attempt: draw, encode, store, deliver."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.duration_pb2 import Duration
from loguru import logger
from opentelemetry.trace import Span

from easel import crash, logs, tracing
from easel.bus import Bus
from easel.crash import CrashPoint
from easel.failures import make_failure
from easel.v1.generation_pb2 import Failure, FailureReason, GenerationSpec, Image, PhaseTimes
from easel.v1.generation_pb2 import Phase as PublicPhase
from easel.worker.v1.result_pb2 import Result, StoredImage, Success
from easel.worker.v1.task_pb2 import AttemptRef, Task
from inference.engine.engine import (
    DrawRequest,
    Engine,
    Failed,
    FailureKind,
    Finished,
    Phase,
    PhaseStarted,
    Pixels,
    Previewed,
    Stepped,
)
from inference.metrics import DROPPED, FAILED, SUCCEEDED, UPLOADING, Metrics
from inference.pictures import Encoder, NotEncodable, PictureFile
from inference.previews import Previews
from inference.progress import Estimate, ProgressReporter, SmoothedMean
from inference.results import Results
from inference.store import ObjectStore, StorageUnavailable

PUBLIC_PHASES: "Mapping[Phase, PublicPhase.ValueType]" = MappingProxyType(
    {
        Phase.WAITING: PublicPhase.PHASE_WAITING,
        Phase.ENCODING: PublicPhase.PHASE_ENCODING,
        Phase.DENOISING: PublicPhase.PHASE_DENOISING,
        Phase.DECODING: PublicPhase.PHASE_DECODING,
    }
)

#: Each kind of failure in the public words; `easel.failures` says which are worth a retry.
PUBLIC_REASONS: "Mapping[FailureKind, FailureReason.ValueType]" = MappingProxyType(
    {
        FailureKind.MODEL_ERROR: FailureReason.FAILURE_REASON_MODEL_ERROR,
        FailureKind.OUT_OF_MEMORY: FailureReason.FAILURE_REASON_OUT_OF_MEMORY,
        FailureKind.INVALID_OUTPUT: FailureReason.FAILURE_REASON_INVALID_OUTPUT,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """What every attempt of a worker works with."""

    worker_id: str
    bus: Bus
    engine: Engine
    encoder: Encoder
    store: ObjectStore
    results: Results
    metrics: Metrics
    #: From the last step to the stored file, for one picture.
    picture_seconds: SmoothedMean = field(default_factory=SmoothedMean)


class Attempt:
    """One attempt at one generation.

    It ends with a delivered result, whatever goes wrong. Only when its task is cancelled, because it was dropped or is
    to be handed back, nothing is delivered.
    """

    def __init__(self, task: Task, workshop: Workshop) -> None:
        self._task = task
        self._workshop = workshop
        self._progress = ProgressReporter(
            workshop.bus,
            generation_id=task.generation_id,
            attempt=task.attempt,
            claim_id=task.claim_id,
            steps=task.spec.steps * task.spec.image_count,
            estimate=Estimate(pictures=task.spec.image_count, picture_seconds=workshop.picture_seconds),
        )
        self._previews = Previews(workshop.encoder, self._progress, metrics=workshop.metrics)
        #: Whether it takes up a slot: until its last step is done.
        self.needs_slot = True
        #: Where the engine has it; None before and after.
        self.engine_phase: Phase | None = Phase.WAITING
        #: Whether its pictures are stored: all that is left is to say so, and they are as good as any other's.
        self.is_stored = False
        #: Called when it needs no slot any more.
        self.on_slot_freed: Callable[[], None] = lambda: None
        #: Waited for before one is drawn that is to be alone.
        self.turn: Callable[[], Awaitable[None]] = _at_once

    @property
    def generation_id(self) -> str:
        """The generation."""
        return self._task.generation_id

    @property
    def number(self) -> int:
        """The number of the attempt."""
        return self._task.attempt

    @property
    def alone(self) -> bool:
        """Whether it is to be drawn with no other beside it."""
        return self._task.alone

    @property
    def ref(self) -> AttemptRef:
        """The name of the attempt."""
        return AttemptRef(generation_id=self.generation_id, attempt=self.number, claim_id=self._task.claim_id)

    def is_meant_by(self, ref: AttemptRef) -> bool:
        """Whether a name is this attempt's; gateways of an earlier version leave out the claim."""
        return ref in (self.ref, AttemptRef(generation_id=self.generation_id, attempt=self.number))

    async def run(self) -> None:
        """Live through the attempt to its end."""
        with tracing.span("attempt", generation_id=self.generation_id, attempt=self.number) as span:
            await self._run(span)

    async def _run(self, span: Span) -> None:
        logs.annotate(generation_id=self.generation_id, attempt=self.number)
        logger.info("started", action="attempt_start")
        metrics = self._workshop.metrics
        try:
            if self.alone:
                await self.turn()
            result = await self._deliver(await self._outcome())
        except asyncio.CancelledError:
            metrics.count_attempt(DROPPED)
            tracing.fail(span, DROPPED)
            raise
        if result.HasField("failure"):
            tracing.fail(span, FailureReason.Name(result.failure.reason))
            metrics.count_attempt(FAILED, reason=result.failure.reason)
        else:
            metrics.count_attempt(SUCCEEDED)
        logger.info("delivered a {}", result.WhichOneof("outcome"), action="attempt_end")

    async def _deliver(self, outcome: Success | Failure) -> Result:
        result = Result(
            generation_id=self.generation_id,
            attempt=self.number,
            worker_id=self._workshop.worker_id,
            claim_id=self._task.claim_id,
        )
        if isinstance(outcome, Failure):
            result.failure.CopyFrom(outcome)
        else:
            result.success.CopyFrom(outcome)
            self.is_stored = True
        await self._workshop.results.deliver(result)
        return result

    async def _outcome(self) -> Success | Failure:
        try:
            drawn = await self._draw()
            return drawn if isinstance(drawn, Failure) else await self._keep(drawn)
        except StorageUnavailable as error:
            logger.error("the pictures could not be stored: {}", error, action="attempt_failed")
            return make_failure(FailureReason.FAILURE_REASON_STORAGE, f"could not store the pictures: {error}")
        except NotEncodable as error:
            logger.opt(exception=logs.without_message(error)).error(
                "a picture cannot be encoded", action="attempt_failed"
            )
            return make_failure(FailureReason.FAILURE_REASON_ENCODING, f"no picture file: {error}")
        except Exception as error:  # noqa: BLE001  # a defect of ours must not leave the attempt without an end
            logger.exception("a defect ended the attempt", action="attempt_failed")
            message = f"the worker failed: {type(error).__name__}"
            return make_failure(FailureReason.FAILURE_REASON_INTERNAL, message)

    async def _draw(self) -> Finished | Failure:
        drawing = self._workshop.engine.draw(to_request(self._task))
        steps_done, stages = 0, tracing.Stages()
        try:
            async for event in drawing:
                match event:
                    case PhaseStarted(phase=phase):
                        stages.enter(phase.value)
                        await self._enter(phase)
                    case Stepped():
                        self._workshop.metrics.count_steps(event.step - steps_done)
                        steps_done = event.step
                        await self._progress.stepped(event)
                        if 2 * event.step >= event.steps:
                            crash.reach(CrashPoint.MID_DRAWING)
                    case Previewed():
                        self._previews.offer(event)
                    case Failed(kind=kind, message=message, error=error):
                        logger.opt(exception=error).error("it cannot be drawn: {}", kind.value, action="attempt_failed")
                        return make_failure(PUBLIC_REASONS[kind], message)
                    case Finished():
                        return event
            raise RuntimeError("the engine stopped what nobody had cancelled")
        finally:
            drawing.cancel()
            stages.end()
            self._previews.close()
            self.engine_phase = None
            self._free_slot()

    async def _enter(self, phase: Phase) -> None:
        self.engine_phase = phase
        if phase is Phase.DECODING:
            self._free_slot()
        await self._progress.enter(PUBLIC_PHASES[phase])

    def _free_slot(self) -> None:
        self.needs_slot = False
        self.on_slot_freed()

    async def _keep(self, drawn: Finished) -> Success:
        started = time.monotonic()
        await self._progress.enter(PublicPhase.PHASE_UPLOADING)
        images = [await self._keep_one(index, pixels) for index, pixels in enumerate(drawn.pictures)]
        crash.reach(CrashPoint.AFTER_PUT)
        seconds = {phase.value: value for phase, value in drawn.phase_seconds.items()}
        seconds[UPLOADING] = time.monotonic() - started
        self._workshop.metrics.time_phases(seconds)
        since_last_step = seconds.get(Phase.DECODING.value, 0.0) + seconds[UPLOADING]
        self._workshop.picture_seconds.add(since_last_step / len(images))
        logger.info("stored {} pictures", len(images), action="stored", **{k: round(v, 3) for k, v in seconds.items()})
        return Success(images=images, phase_times=_phase_times(seconds))

    async def _keep_one(self, index: int, pixels: Pixels) -> StoredImage:
        spec = self._task.spec
        file = await self._workshop.encoder.encode(pixels, spec.output, parameters=_parameters(spec, index=index))
        key = f"{self._task.object_prefix}{index}.{file.extension}"
        with tracing.span("upload", index=index), self._workshop.metrics.upload(size_bytes=len(file.data)):
            await self._workshop.store.put(key, file)
        return StoredImage(object_key=key, image=_image(file, index=index, seed=spec.seed + index))


async def _at_once() -> None:
    return


def to_request(task: Task) -> DrawRequest:
    """Say what to draw in the engine's words."""
    spec = task.spec
    return DrawRequest(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        width=spec.width,
        height=spec.height,
        steps=spec.steps,
        guidance_scale=spec.guidance_scale,
        seed=spec.seed,
        image_count=spec.image_count,
        scheduler=spec.scheduler,
        preview_every_steps=spec.preview.every_steps,
        alone=task.alone,
    )


def _parameters(spec: GenerationSpec, *, index: int) -> dict[str, object]:
    return {
        "model": spec.model,
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "seed": spec.seed + index,
        "steps": spec.steps,
        "guidance_scale": spec.guidance_scale,
        "scheduler": spec.scheduler,
        "width": spec.width,
        "height": spec.height,
    }


def _image(file: PictureFile, *, index: int, seed: int) -> Image:
    return Image(
        index=index,
        seed=seed,
        width=file.width,
        height=file.height,
        content_type=file.content_type,
        size_bytes=len(file.data),
        sha256=file.sha256,
    )


def _phase_times(seconds: Mapping[str, float]) -> PhaseTimes:
    times = PhaseTimes()
    for phase, value in seconds.items():
        getattr(times, phase).CopyFrom(Duration(seconds=int(value), nanos=int(value % 1 * 1e9)))
    return times

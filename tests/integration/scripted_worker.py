"""A worker without a model: it claims, reports and finishes when a test says so, over the real bus."""

import asyncio
import uuid
from collections.abc import Sequence

from nats.aio.msg import Msg

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_pb2 import Failure, ImageFormat, Phase
from easel.v1.model_pb2 import DoubleRange, IntRange, Model, ModelDefaults
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.progress_pb2 import ProgressReport
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import AttemptRef, Task, TaskHint

HINT_PATIENCE_SECONDS = 15.0


def model(name: str) -> Model:
    return Model(
        name=name,
        defaults=ModelDefaults(
            width=64,
            height=64,
            steps=20,
            guidance_scale=7.5,
            scheduler="ddim",
            image_count=1,
            format=ImageFormat.IMAGE_FORMAT_PNG,
        ),
        width=IntRange(min=8, max=512, multiple_of=8),
        height=IntRange(min=8, max=512, multiple_of=8),
        steps=IntRange(min=1, max=100),
        guidance_scale=DoubleRange(min=0, max=30),
        image_count=IntRange(min=1, max=4),
        schedulers=["ddim", "euler"],
        previews=True,
    )


class ScriptedWorker:
    def __init__(self, bus: Bus, *, model_name: str, slots: int = 1) -> None:
        self.worker_id = uuid.uuid4().hex
        self.model = model(model_name)
        self._bus = bus
        self._slots = slots
        self._sequence = 0

    async def renew(self, *tasks: Task) -> RenewResponse:
        request = RenewRequest(
            worker_id=self.worker_id,
            models=[self.model],
            slots=self._slots,
            free_slots=self._slots,
            attempts=_refs(tasks),
        )
        return await self._bus.request(subjects.RENEW, request, RenewResponse)

    async def hint(self) -> tuple[str, Msg]:
        """Wait for the next hint and return its generation."""
        consumer = subjects.task_consumer(self.model.name)
        async with asyncio.timeout(HINT_PATIENCE_SECONDS):
            while True:
                subscription = await self._bus.jetstream.pull_subscribe_bind(
                    consumer=consumer, stream=subjects.TASKS_STREAM
                )
                try:
                    (message,) = await subscription.fetch(1, timeout=1)
                except Exception:  # noqa: BLE001  # the consumer may not be there yet
                    await self.renew()
                    continue
                finally:
                    await subscription.unsubscribe()
                return TaskHint.FromString(message.data).generation_id, message

    async def ask(self, generation_id: str, *, claim_id: str | None = None) -> ClaimResponse:
        request = ClaimRequest(
            claim_id=claim_id or uuid.uuid4().hex, generation_id=generation_id, worker_id=self.worker_id
        )
        return await self._bus.request(subjects.CLAIM, request, ClaimResponse)

    async def take(self) -> Task:
        """Wait for the next hint of something that is not gone, and claim and acknowledge it."""
        while True:
            generation_id, message = await self.hint()
            response = await self.ask(generation_id)
            await message.ack_sync()
            if response.answer == ClaimAnswer.CLAIM_ANSWER_GONE:
                continue
            assert response.answer == ClaimAnswer.CLAIM_ANSWER_GRANTED, response
            return response.task

    async def report(self, task: Task, *, step: int, preview: bytes = b"") -> None:
        self._sequence += 1
        report = ProgressReport(generation_id=task.generation_id, sequence=self._sequence, claim_id=task.claim_id)
        report.progress.attempt = task.attempt
        report.progress.phase = Phase.PHASE_DENOISING
        report.progress.step = step
        report.progress.steps = task.spec.steps
        if preview:
            report.preview.attempt = task.attempt
            report.preview.step = step
            report.preview.content_type = "image/jpeg"
            report.preview.data = preview
        await self._bus.tell(subjects.progress(task.generation_id), report)

    async def succeed(self, task: Task) -> None:
        result = self._result(task)
        stored = result.success.images.add(object_key=f"{task.object_prefix}0.png")
        stored.image.sha256 = "ab" * 32
        await self._bus.publish(subjects.result(task.generation_id), result)

    async def fail(self, task: Task, failure: Failure) -> None:
        result = self._result(task)
        result.failure.CopyFrom(failure)
        await self._bus.publish(subjects.result(task.generation_id), result)

    async def release(self, *tasks: Task, leaving: bool = False) -> None:
        request = ReleaseRequest(worker_id=self.worker_id, attempts=_refs(tasks), leaving=leaving)
        await self._bus.request(subjects.RELEASE, request, ReleaseResponse)

    def _result(self, task: Task) -> Result:
        return Result(
            generation_id=task.generation_id,
            attempt=task.attempt,
            worker_id=self.worker_id,
            claim_id=task.claim_id,
        )


def _refs(tasks: Sequence[Task]) -> list[AttemptRef]:
    return [
        AttemptRef(generation_id=task.generation_id, attempt=task.attempt, claim_id=task.claim_id) for task in tasks
    ]

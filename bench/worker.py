"""What a worker says of itself, for measurements that need a known model and no drawing."""

from collections.abc import Sequence

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_pb2 import ImageFormat
from easel.v1.model_pb2 import DoubleRange, IntRange, Model, ModelDefaults
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse
from easel.worker.v1.task_pb2 import AttemptRef, Task

MODEL = Model(
    name="bench",
    description="Draws nothing.",
    defaults=ModelDefaults(
        width=512,
        height=512,
        steps=50,
        guidance_scale=7.5,
        scheduler="ddim",
        image_count=1,
        format=ImageFormat.IMAGE_FORMAT_PNG,
    ),
    width=IntRange(min=64, max=1024, multiple_of=8),
    height=IntRange(min=64, max=1024, multiple_of=8),
    steps=IntRange(min=1, max=100),
    guidance_scale=DoubleRange(min=0, max=30),
    image_count=IntRange(min=1, max=4),
    schedulers=["ddim", "euler"],
)
WORKER_ID = "bench-worker"


async def renew(bus: Bus, *, slots: int, tasks: Sequence[Task] = ()) -> None:
    """Report a live worker with so many slots, and what it draws."""
    held = [AttemptRef(generation_id=task.generation_id, attempt=task.attempt) for task in tasks]
    request = RenewRequest(
        worker_id=WORKER_ID, models=[MODEL], slots=slots, free_slots=slots - len(held), attempts=held
    )
    await bus.request(subjects.RENEW, request, RenewResponse)


async def leave(bus: Bus) -> None:
    """Report that the worker goes: its model stays known, and nothing is dispatched to it any more."""
    await bus.request(subjects.RELEASE, ReleaseRequest(worker_id=WORKER_ID, leaving=True), ReleaseResponse)

"""Easel's client for Python: async, typed, and unimpressed by broken connections.

async with Client("127.0.0.1:50051") as client:
    async for event in client.generate(GenerationSpec(prompt="a castle", steps=20)):
        if event.progress:
            print(event.progress.step, "of", event.progress.steps)
    await client.download(event.generation, "castle.png")
"""

from easel.client.client import Client
from easel.client.errors import (
    Conflict,
    CorruptDownload,
    DeadlineExceeded,
    Defect,
    Deleted,
    Denied,
    DownloadFailed,
    EaselError,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    ModelNotFound,
    NotFinal,
    NotFound,
    NotSucceeded,
    Unavailable,
    Unsupported,
    Violation,
)
from easel.client.events import Event, is_final
from easel.client.listing import Filters, Page
from easel.v1.generation_messages_pb2 import Preview
from easel.v1.generation_pb2 import (
    Attempt,
    AttemptOutcome,
    Failure,
    FailureReason,
    Generation,
    GenerationSpec,
    GenerationState,
    Image,
    ImageFormat,
    OutputSpec,
    Phase,
    PreviewSpec,
    Progress,
)
from easel.v1.model_pb2 import Model

__all__ = [
    "Attempt",
    "AttemptOutcome",
    "Client",
    "Conflict",
    "CorruptDownload",
    "DeadlineExceeded",
    "Defect",
    "Deleted",
    "Denied",
    "DownloadFailed",
    "EaselError",
    "Event",
    "Exhausted",
    "FailedPrecondition",
    "Failure",
    "FailureReason",
    "Filters",
    "Generation",
    "GenerationSpec",
    "GenerationState",
    "Image",
    "ImageFormat",
    "InvalidRequest",
    "Model",
    "ModelNotFound",
    "NotFinal",
    "NotFound",
    "NotSucceeded",
    "OutputSpec",
    "Page",
    "Phase",
    "Preview",
    "PreviewSpec",
    "Progress",
    "Unavailable",
    "Unsupported",
    "Violation",
    "is_final",
]

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
    Denied,
    DownloadFailed,
    EaselError,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
    Violation,
)
from easel.client.events import Event, is_final
from easel.v1.generation_pb2 import Generation, GenerationSpec, GenerationState, ImageFormat, OutputSpec

__all__ = [
    "Client",
    "Conflict",
    "CorruptDownload",
    "DeadlineExceeded",
    "Defect",
    "Denied",
    "DownloadFailed",
    "EaselError",
    "Event",
    "Exhausted",
    "FailedPrecondition",
    "Generation",
    "GenerationSpec",
    "GenerationState",
    "ImageFormat",
    "InvalidRequest",
    "NotFound",
    "OutputSpec",
    "Unavailable",
    "Unsupported",
    "Violation",
    "is_final",
]

from collections.abc import AsyncIterator

import pytest

from easel.v1.model_pb2 import IntRange, Model, ModelDefaults
from easel.v1.model_service_pb2 import ListModelsResponse
from tests.unit.easel.scripted import ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        running.models = ListModelsResponse(
            models=[
                Model(
                    name="tiny",
                    description="Untrained.",
                    live_workers=1,
                    defaults=ModelDefaults(width=64, height=64, steps=50, guidance_scale=7.5, scheduler="pndm"),
                    width=IntRange(min=64, max=512, multiple_of=8),
                    height=IntRange(min=64, max=512, multiple_of=8),
                    schedulers=["ddim", "pndm"],
                    max_pixel_steps=16_384_000,
                )
            ]
        )
        yield running

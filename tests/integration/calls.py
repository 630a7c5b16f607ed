"""What tests of gateways say to them, and how they wait for what comes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import Generation, GenerationSpec, GenerationState
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.integration.scripted_worker import ScriptedWorker

PATIENCE_SECONDS = 20.0

QUEUED = GenerationState.GENERATION_STATE_QUEUED
RUNNING = GenerationState.GENERATION_STATE_RUNNING
SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED
FAILED = GenerationState.GENERATION_STATE_FAILED
CANCELLED = GenerationState.GENERATION_STATE_CANCELLED
EXPIRED = GenerationState.GENERATION_STATE_EXPIRED


def spec_of(worker: ScriptedWorker, **fields: Any) -> GenerationSpec:
    return GenerationSpec(model=worker.model.name, prompt="a castle", **fields)


async def create(client: GenerationServiceStub, worker: ScriptedWorker, **fields: Any) -> Generation:
    request = messages.CreateGenerationRequest(spec=spec_of(worker, **fields))
    return (await client.CreateGeneration(request)).generation


async def get(client: GenerationServiceStub, generation_id: str) -> Generation:
    return (await client.GetGeneration(messages.GetGenerationRequest(id=generation_id))).generation


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110  # it is a question to a server
            await asyncio.sleep(0.02)


async def reach(client: GenerationServiceStub, generation_id: str, state: "GenerationState.ValueType") -> Generation:
    async def reached() -> bool:
        return (await get(client, generation_id)).state == state

    await until(reached)
    return await get(client, generation_id)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """Await a call that is refused, and return its status and its details by type."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    rich = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # its stubs know sync calls only
    assert rich is not None
    details = {}
    for packed in rich.details:
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        detail = kind()
        packed.Unpack(detail)
        details[kind.__name__] = detail
    return refused.value.code(), details


class Watcher:
    """A client that watches, and keeps what it saw."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.states: list[int] = []
        self.steps: list[int] = []
        self.previews: list[messages.Preview] = []
        self.token = ""
        self.last = Generation()

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            response = await self._call.read()
        if response is grpc.aio.EOF:
            assert await self._call.code() == grpc.StatusCode.OK, await self._call.details()
            return "end"
        self.token = response.resume_token
        kind = str(response.WhichOneof("event"))
        if kind == "generation":
            self.last = response.generation
            self.states.append(response.generation.state)
        elif kind == "preview":
            self.previews.append(response.preview)
        else:
            self.steps.append(response.progress.step)
        return kind

    async def until_step(self, step: int) -> None:
        while self.steps[-1:] != [step]:
            await self.next()

    async def until_state(self, state: int) -> None:
        while self.states[-1:] != [state]:
            await self.next()

    async def to_the_end(self) -> Generation:
        while await self.next() != "end":
            pass
        return self.last

"""Clients that call CreateGeneration one call after the other, in a process of their own.

Asked `{target, clients, seconds}`, they answer `{per_second, latency_ms}`: the rate of all together, and 101
latencies, the least, each percentile and the greatest.
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import uvloop

from bench.child import answer_questions
from easel.v1.generation_messages_pb2 import CreateGenerationRequest
from easel.v1.generation_pb2 import GenerationSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub

#: What a client of a backend would send.
SPEC = GenerationSpec(
    prompt="a sunset over a beach, oil on canvas, warm light, long shadows, a single boat at anchor",
    negative_prompt="people, text",
    steps=30,
    seed=7,
    labels={"project": "postcards"},
)
WARM_UP_CALLS = 5


async def call(*, target: str, clients: int, seconds: float) -> dict[str, Any]:
    """Have so many clients, each with a connection of its own, call for so long."""
    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        stubs = [GenerationServiceStub(await stack.enter_async_context(_connect(target))) for _ in range(clients)]
        await asyncio.gather(*(_call(stub, calls=WARM_UP_CALLS) for stub in stubs))
        began = time.perf_counter()
        await asyncio.gather(*(_call_until(stub, began + seconds, latencies) for stub in stubs))
        took = time.perf_counter() - began
    return {"per_second": len(latencies) / took, "latency_ms": _percentiles(latencies)}


def _connect(target: str) -> grpc.aio.Channel:
    # Channels with the same options would share one connection.
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


async def _call(stub: GenerationServiceStub, *, calls: int) -> None:
    for _ in range(calls):
        await stub.CreateGeneration(_request())


async def _call_until(stub: GenerationServiceStub, end: float, latencies: list[float]) -> None:
    while (began := time.perf_counter()) < end:
        await stub.CreateGeneration(_request())
        latencies.append(time.perf_counter() - began)


def _request() -> CreateGenerationRequest:
    return CreateGenerationRequest(request_id=uuid.uuid4().hex, spec=SPEC)


def _percentiles(seconds: Sequence[float]) -> list[float]:
    inner = statistics.quantiles(seconds, n=100, method="inclusive")
    return [round(each * 1000, 3) for each in (min(seconds), *inner, max(seconds))]


async def main() -> None:
    """Answer until nobody asks any more."""
    await answer_questions(lambda question: call(**question))


if __name__ == "__main__":
    uvloop.run(main())

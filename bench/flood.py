"""One owner that asks for far too much, in a process of its own: new generations, single ones, long pages, hard lists.

Each caller asks one call after the other. Asked `{start}` they begin; asked `{stop}` they end, and what they did is
answered: `{kind: {calls, refused}}`.
"""

import asyncio
import itertools
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import uvloop

from bench.callers import SPEC
from bench.child import answer_questions
from bench.history import BUSY, MODELS
from bench.owners import OWNER
from easel.v1.generation_messages_pb2 import CreateGenerationRequest, GetGenerationRequest, ListGenerationsRequest
from easel.v1.generation_pb2 import GenerationSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub

CALLERS = {"creates": 16, "gets": 16, "long pages": 8, "hard lists": 24}
#: The longest that is given out.
PAGE = 1_000
#: A whole look at all that the owner has, since no generation of this model has this label.
HARD_LIST = ListGenerationsRequest(models=[MODELS[1]], labels={"family": "family-0"})

METADATA = ((OWNER, BUSY),)


class Flood:
    """The callers."""

    def __init__(self, stubs: Sequence[GenerationServiceStub], generation_ids: Sequence[str]) -> None:
        self._stubs = itertools.cycle(stubs)
        self._generation_ids = itertools.cycle(generation_ids)
        self._spec = GenerationSpec()
        self._spec.CopyFrom(SPEC)
        self._spec.model = MODELS[0]
        self._calls: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question."""
        if "start" in question:
            self._tasks = [
                asyncio.create_task(self._call(kind)) for kind, callers in CALLERS.items() for _ in range(callers)
            ]
            return {}
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        return {kind: {"calls": self._calls[kind], "refused": self._refused[kind]} for kind in CALLERS}

    async def _call(self, kind: str) -> None:
        stub = next(self._stubs)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "creates": lambda: stub.CreateGeneration(
                CreateGenerationRequest(request_id=uuid.uuid4().hex, spec=self._spec), metadata=METADATA
            ),
            "gets": lambda: stub.GetGeneration(GetGenerationRequest(id=next(self._generation_ids)), metadata=METADATA),
            "long pages": lambda: stub.ListGenerations(ListGenerationsRequest(page_size=PAGE), metadata=METADATA),
            "hard lists": lambda: stub.ListGenerations(HARD_LIST, metadata=METADATA),
        }
        while True:
            try:
                await calls[kind]()
            except grpc.aio.AioRpcError:
                self._refused[kind] += 1
            self._calls[kind] += 1


async def main() -> None:
    """Answer until nobody asks any more: `python -m bench.flood TARGET GENERATION_ID...`."""
    target, *generation_ids = sys.argv[1:]
    async with AsyncExitStack() as opened:
        # Channels with the same options would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(4)]
        stubs = [GenerationServiceStub(await opened.enter_async_context(channel)) for channel in channels]
        await answer_questions(Flood(stubs, generation_ids).answer)


if __name__ == "__main__":
    uvloop.run(main())

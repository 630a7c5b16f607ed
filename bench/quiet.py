"""The calls of one owner that asks for little, in a process of its own.

Asked `{seconds}`, it answers `{took_ms: {get, list, watch, change}, refused}`. A watch is timed until the generation is
there, a change from the call that cancels it until its watcher sees that.
"""

import asyncio
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import uvloop

from bench.callers import SPEC
from bench.child import answer_questions
from bench.history import QUIET
from bench.owners import OWNER
from bench.worker import MODEL
from easel.v1.generation_messages_pb2 import (
    CancelGenerationRequest,
    CreateGenerationRequest,
    GetGenerationRequest,
    ListGenerationsRequest,
    WatchGenerationRequest,
)
from easel.v1.generation_pb2 import GenerationSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub

METADATA = ((OWNER, QUIET),)
#: Between two calls of the same kind.
PAUSE_SECONDS = 0.02


class Quiet:
    """One caller of each kind."""

    def __init__(self, stub: GenerationServiceStub, generation_ids: Sequence[str]) -> None:
        self._stub = stub
        self._generation_ids = itertools.cycle(generation_ids)
        self._spec = GenerationSpec()
        self._spec.CopyFrom(SPEC)
        self._spec.model = MODEL.name
        self._took_ms: defaultdict[str, list[float]] = defaultdict(list)
        self._refused = 0

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question."""
        self._took_ms.clear()
        self._refused = 0
        end = time.monotonic() + question["seconds"]
        await asyncio.gather(*(self._repeat(call, end=end) for call in (self._get, self._list, self._watch)))
        return {"took_ms": self._took_ms, "refused": self._refused}

    async def _repeat(self, call: Callable[[], Awaitable[None]], *, end: float) -> None:
        while time.monotonic() < end:
            try:
                await call()
            except grpc.aio.AioRpcError:
                self._refused += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _get(self) -> None:
        began = time.perf_counter()
        await self._stub.GetGeneration(GetGenerationRequest(id=next(self._generation_ids)), metadata=METADATA)
        self._take_note("get", began)

    async def _list(self) -> None:
        began = time.perf_counter()
        await self._stub.ListGenerations(ListGenerationsRequest(), metadata=METADATA)
        self._take_note("list", began)

    async def _watch(self) -> None:
        created = await self._stub.CreateGeneration(CreateGenerationRequest(spec=self._spec), metadata=METADATA)
        generation_id = created.generation.id
        began = time.perf_counter()
        watch = self._stub.WatchGeneration(WatchGenerationRequest(id=generation_id), metadata=METADATA)
        try:
            await watch.read()
            self._take_note("watch", began)
            began = time.perf_counter()
            cancel = self._stub.CancelGeneration(CancelGenerationRequest(id=generation_id), metadata=METADATA)
            # Where it is refused there is nothing to wait for.
            await asyncio.gather(cancel, self._see_change(watch, began))
        finally:
            watch.cancel()

    async def _see_change(self, watch: Any, began: float) -> None:
        await watch.read()
        self._take_note("change", began)

    def _take_note(self, kind: str, began: float) -> None:
        self._took_ms[kind].append(round((time.perf_counter() - began) * 1000, 3))


async def main() -> None:
    """Answer until nobody asks any more: `python -m bench.quiet TARGET GENERATION_ID...`."""
    target, *generation_ids = sys.argv[1:]
    async with grpc.aio.insecure_channel(target) as channel:
        await answer_questions(Quiet(GenerationServiceStub(channel), generation_ids).answer)


if __name__ == "__main__":
    uvloop.run(main())

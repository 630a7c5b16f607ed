"""Thousands of watchers with `easel.client`, in a process of their own.

Questions, one at a time: `{watch, connections}` starts to watch generations over so many connections and is answered
once each watcher has seen its generation; `{collect}` asks for what came since the last time; `{resumed,
within_seconds}` waits until each has seen something new, and `{ended, within_seconds}` until each has come to its end.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import grpc
import uvloop

from bench.child import answer_questions
from easel.client import Client, EaselError, Event, GenerationState

POLL_SECONDS = 0.1
START_SECONDS = 120.0


class LoneClient(Client):
    """A client with a connection of its own; those with the same options share one otherwise."""

    async def __aenter__(self) -> Self:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 3000),
        ]
        self._open_channel = grpc.aio.insecure_channel(self.target, options=options)
        return self


class Watcher:
    """Watches one generation, and takes note of what it sees and when."""

    def __init__(self, client: Client, generation_id: str) -> None:
        self._client = client
        self._generation_id = generation_id
        #: How long the reports took that were published while it was connected.
        self.latencies: list[float] = []
        self.final_latency: float | None = None
        self.events = 0
        self.breaks = 0
        self.skipped_changes = 0
        self.error = ""
        self.succeeded = False
        self._revision = 0
        self._connected_at = 0.0

    async def watch(self) -> None:
        """Watch until the end."""
        try:
            async for event in self._client.watch(self._generation_id, on_outage=self._on_outage):
                self._see(event, at=time.time())
        except EaselError as error:
            self.error = repr(error)

    def _see(self, event: Event, *, at: float) -> None:
        self.events += 1
        if event.is_transition:
            self._see_change(event, at=at)
        elif event.progress is not None:
            published_at = event.progress.step_seconds
            # What was published before it was there comes from the stream's memory.
            if published_at > self._connected_at:
                self.latencies.append(at - published_at)

    def _see_change(self, event: Event, *, at: float) -> None:
        generation = event.generation
        if self._revision:
            self.skipped_changes += generation.revision - self._revision - 1
        else:
            self._connected_at = at
        self._revision = generation.revision
        if event.is_final:
            self.succeeded = generation.state == GenerationState.GENERATION_STATE_SUCCEEDED
            self.final_latency = at - generation.phase_times.waiting.ToNanoseconds() / 1e9

    def _on_outage(self, error: EaselError | None) -> None:
        if error is None:
            self._connected_at = time.time()
        else:
            self.breaks += 1


class Watchers:
    """All watchers of this process."""

    def __init__(self, target: str, connections: AsyncExitStack) -> None:
        self._target = target
        self._connections = connections
        self._watchers: list[Watcher] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question."""
        if "watch" in question:
            return await self._watch(question["watch"], connections=question["connections"])
        if "resumed" in question:
            return await self._resumed(question["within_seconds"])
        if "ended" in question:
            return await self._ended(question["within_seconds"])
        return self._collect()

    async def _watch(self, generation_ids: Sequence[str], *, connections: int) -> dict[str, Any]:
        await self._connections.aclose()  # those of what was watched before
        clients = [await self._connections.enter_async_context(LoneClient(self._target)) for _ in range(connections)]
        began = time.monotonic()
        self._watchers = [
            Watcher(clients[index % connections], generation_id) for index, generation_id in enumerate(generation_ids)
        ]
        self._tasks = [asyncio.create_task(watcher.watch()) for watcher in self._watchers]
        seen = await self._until(lambda watcher: watcher.events > 0, within_seconds=START_SECONDS)
        return {"seen": seen, "seconds": time.monotonic() - began}

    def _collect(self) -> dict[str, Any]:
        latencies = [latency for watcher in self._watchers for latency in watcher.latencies]
        for watcher in self._watchers:
            watcher.latencies.clear()
        return {"latencies_ms": _milliseconds(latencies)}

    async def _resumed(self, within_seconds: float) -> dict[str, Any]:
        began = time.monotonic()
        before = {watcher: watcher.events for watcher in self._watchers}
        resumed = await self._until(
            lambda watcher: watcher.succeeded or watcher.events > before[watcher], within_seconds=within_seconds
        )
        return {"resumed": resumed, "seconds": time.monotonic() - began}

    async def _ended(self, within_seconds: float) -> dict[str, Any]:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_seconds)
        for task in self._tasks:
            task.cancel()
        final = [watcher.final_latency for watcher in self._watchers if watcher.final_latency is not None]
        return {
            "succeeded": sum(watcher.succeeded for watcher in self._watchers),
            "skipped_changes": sum(watcher.skipped_changes for watcher in self._watchers),
            "breaks": sum(watcher.breaks for watcher in self._watchers),
            "errors": [watcher.error for watcher in self._watchers if watcher.error],
            "final_latencies_ms": _milliseconds(final),
        }

    async def _until(self, is_so: Callable[[Watcher], bool], *, within_seconds: float) -> int:
        """Wait until something holds for all, and count for how many it holds."""
        end = time.monotonic() + within_seconds
        count = 0
        while time.monotonic() < end:
            count = sum(map(is_so, self._watchers))
            if count == len(self._watchers):
                break
            await asyncio.sleep(POLL_SECONDS)
        return count


def _milliseconds(seconds: Sequence[float]) -> list[float]:
    return [round(each * 1000, 2) for each in seconds]


def percentiles(values: Sequence[float]) -> list[float]:
    """Give the least of many values, each percentile, and the greatest."""
    inner = statistics.quantiles(values, n=100, method="inclusive")
    return [round(each, 3) for each in (min(values), *inner, max(values))]


async def main() -> None:
    """Watch until nobody asks any more."""
    async with AsyncExitStack() as connections:
        await answer_questions(Watchers(sys.argv[1], connections).answer)


if __name__ == "__main__":
    uvloop.run(main())

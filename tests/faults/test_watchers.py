"""A thousand watchers, of which a tenth never read, while the gateways are killed and restarted."""

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest

from bench.child import Child
from bench.watchers import LoneClient
from easel.bus import Bus, BusUnavailable
from easel.client import Client, Event, GenerationState
from easel.client.events import Position
from easel.client.outage import Deadline, Outage
from easel.client.watch import Stream, follow
from easel.embedded import Stack
from easel.embedded.services import Gateway
from easel.v1.generation_messages_pb2 import WatchGenerationRequest
from easel.v1.generation_pb2 import GenerationSpec, PreviewSpec
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.worker.v1.task_pb2 import Task
from tests.faults.clients import Endless, until
from tests.integration.scripted_worker import ScriptedWorker

READERS = 900
#: Those who look at the first event and then at nothing, and those who never even do that.
DOZERS, SLEEPERS = 50, 50
#: Of what is read, some ends while gateways are restarted, and the rest not before they are back.
QUICK_GENERATIONS, LASTING_GENERATIONS, UNREAD_GENERATIONS = 60, 30, 10
CONNECTIONS = 50

#: What a watcher may cost at the peak (see `bench.watch`), and one that does not read: a preview or two of the largest
#: kind, on the way to it. All watchers may be at one gateway while the other is down.
KIB_PER_WATCHER, KIB_PER_SLEEPER = 64, 200
MAX_GROWTH_MIB = (KIB_PER_WATCHER * (READERS + DOZERS + SLEEPERS) + KIB_PER_SLEEPER * (DOZERS + SLEEPERS)) / 1024

#: So much is reported of what is not read, at least: far more than any gateway may hold.
FLOOD_MIB = 256
PREVIEW_BYTES = 60_000
RENEW_SECONDS = 0.3
SAMPLE_SECONDS = 0.1
PATIENCE_SECONDS = 100.0

SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED

LABELS = {"read-by": "watchers"}


def spec(script: str, *, steps: int, width: int) -> GenerationSpec:
    """Ask for something to be read, with some previews."""
    preview = PreviewSpec(every_steps=steps // 4)
    return GenerationSpec(model="scripted", prompt=script, steps=steps, width=width, preview=preview, labels=LABELS)


class Flood:
    """A worker that holds some generations and reports on them without end."""

    def __init__(self, bus: Bus) -> None:
        self._worker = ScriptedWorker(bus, model_name=f"flood-{uuid.uuid4().hex[:8]}", slots=UNREAD_GENERATIONS)
        self._tasks: Sequence[Task] = ()
        self._reported_bytes = 0
        self.spec = GenerationSpec(model=self._worker.model.name, prompt="a flood", steps=100)

    async def appear(self) -> None:
        """Make the model known."""
        await self._worker.renew()

    async def leave(self) -> None:
        await self._worker.release(leaving=True)

    async def is_over(self) -> bool:
        """Whether it was one."""
        return self._reported_bytes > FLOOD_MIB * 1024 * 1024

    async def take(self) -> None:
        self._tasks = [await self._worker.take() for _ in range(UNREAD_GENERATIONS)]

    async def run(self) -> None:
        """Renew and report until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            tasks.create_task(self._report())

    async def finish(self) -> None:
        for task in self._tasks:
            await self._worker.succeed(task)

    async def _renew(self) -> None:
        while True:
            with suppress(BusUnavailable):
                await self._worker.renew(*self._tasks)
            await asyncio.sleep(RENEW_SECONDS)

    async def _report(self) -> None:
        for step in itertools.count(1):
            for task in self._tasks:
                await self._worker.report(task, step=step, preview=random.randbytes(PREVIEW_BYTES))
                self._reported_bytes += PREVIEW_BYTES
            await asyncio.sleep(SAMPLE_SECONDS / 4)


@asynccontextmanager
async def flooding(stack: Stack) -> AsyncIterator[Flood]:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    try:
        flood = Flood(bus)
        await flood.appear()
        yield flood
        await flood.leave()
    finally:
        await bus.close()


class Memory:
    """What gateways grow by."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self._gateways = gateways
        self._before = [self._resident_mib(gateway) for gateway in gateways]
        self.growth_mib = 0.0

    async def sample(self) -> None:
        """Look until cancelled."""
        while True:
            for gateway, before in zip(self._gateways, self._before, strict=True):
                with suppress(psutil.NoSuchProcess):  # it is being restarted
                    self.growth_mib = max(self.growth_mib, self._resident_mib(gateway) - before)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _resident_mib(self, gateway: Gateway) -> float:
        return float(psutil.Process(gateway.pid).memory_info().rss) / 1024 / 1024


@asynccontextmanager
async def running(*tasks: Awaitable[None]) -> AsyncIterator[None]:
    """Have tasks run meanwhile, none of which may end by itself."""
    begun = [asyncio.ensure_future(task) for task in tasks]
    try:
        yield
        assert [task for task in begun if task.done()] == []
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


def both(stack: Stack, *, first: int) -> str:
    """Name both gateways, one of which is asked while it is there."""
    targets = [gateway.target for gateway in stack.gateways]
    return "ipv4:" + ",".join(targets[first:] + targets[:first])


class NarrowClient(LoneClient):
    """A client that takes a few hundred bytes of a stream before it reads: then the gateway cannot write to it."""

    async def __aenter__(self) -> "NarrowClient":
        options = [
            ("grpc.http2.lookahead_bytes", 1024),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._open_channel = grpc.aio.insecure_channel(self.target, options=options)
        return self


async def begin_to_doze(client: Client, generation_id: str) -> AsyncGenerator[Event, None]:
    """Watch, and look at one event; return the others, for later."""
    events = client.watch(generation_id, deadline_seconds=3 * PATIENCE_SECONDS)
    await anext(events)
    return events


async def fall_asleep(client: Client, generation_id: str) -> AsyncGenerator[Event, None]:
    """Open a stream and read nothing of it; return what to read later."""
    stub = GenerationServiceStub(client._channel)
    unread = [stub.WatchGeneration(WatchGenerationRequest(id=generation_id))]
    await unread[0].initial_metadata()

    def open_stream(position: Position) -> Stream:
        if unread:
            return unread.pop()
        return stub.WatchGeneration(WatchGenerationRequest(id=generation_id, resume_token=position.resume_token))

    outage = Outage(patience_seconds=PATIENCE_SECONDS, deadline=Deadline(None))
    return follow(open_stream, position=Position(), outage=outage)


async def assert_comes_to_its_end(events: AsyncGenerator[Event, None], *, seen: int = 0) -> None:
    """Read everything that is left: no revision after the first one seen is left out, and the last one is final."""
    transitions = [event.generation async for event in events if event.is_transition]
    revisions = [generation.revision for generation in transitions]
    assert revisions == list(range(seen + 1 if seen else revisions[0], revisions[-1] + 1))
    assert transitions[-1].state == SUCCEEDED


async def create(client: Client, spec: GenerationSpec, *, count: int) -> list[str]:
    return [generation.id for generation in await client.batch_create([spec] * count)]


async def unfinished(client: Client) -> list[str]:
    """Name those to be read that did not succeed, with what became of them instead."""
    return [
        f"{one.id} is {GenerationState.Name(one.state)} after {one.attempt_count} attempts"
        async for one in client.list(labels=LABELS)
        if one.state != SUCCEEDED
    ]


async def ask(children: Sequence[Child], question: Callable[[int], dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return await asyncio.gather(*(child.ask(question(index)) for index, child in enumerate(children)))


async def kill_and_restart(stack: Stack, client: Client) -> None:
    """Kill one gateway when a third of what is quick has ended, and restart the other when two thirds of it have."""

    async def ended(count: int) -> bool:
        return len([one async for one in client.list(states=[SUCCEEDED], labels=LABELS)]) >= count

    await until(partial(ended, QUICK_GENERATIONS // 3), seconds=PATIENCE_SECONDS)
    stack.gateways[0].kill()
    await stack.gateways[0].start()
    await until(partial(ended, 2 * QUICK_GENERATIONS // 3), seconds=PATIENCE_SECONDS)
    await stack.gateways[1].restart()


@pytest.mark.timeout(300)
async def test_a_tenth_never_reads_while_gateways_restart(stack: Stack, tmp_path: Path) -> None:
    endless = Endless(tmp_path, steps=250)
    async with AsyncExitStack() as opened:
        enter = opened.enter_async_context
        flood = await enter(flooding(stack))
        readers = [await enter(Child("bench.watchers", both(stack, first=index))) for index in (0, 1)]
        client = await enter(Client(both(stack, first=0)))
        memory = Memory(stack.gateways)
        unread = itertools.cycle(await create(client, flood.spec, count=UNREAD_GENERATIONS))
        dozing = [
            await begin_to_doze(await enter(LoneClient(both(stack, first=index % 2))), next(unread))
            for index in range(DOZERS)
        ]
        asleep = [
            await fall_asleep(await enter(NarrowClient(both(stack, first=index % 2))), next(unread))
            for index in range(SLEEPERS)
        ]
        await flood.take()
        async with running(flood.run(), memory.sample()):
            read = await create(client, spec("step=0.2", steps=20, width=72), count=QUICK_GENERATIONS)
            # Of another size, so that its steps are none of the others'.
            lasting = spec(endless.script, steps=endless.steps, width=80)
            read += await create(client, lasting, count=LASTING_GENERATIONS)
            read = (read * READERS)[:READERS]
            await ask(readers, lambda index: {"watch": read[index::2], "connections": CONNECTIONS // 2})
            await kill_and_restart(stack, client)
            endless.end()
            ended = await ask(readers, lambda _: {"ended": True, "within_seconds": PATIENCE_SECONDS})
            await until(flood.is_over, seconds=PATIENCE_SECONDS)
        assert await unfinished(client) == []
        assert [answer["errors"] for answer in ended] == [[], []]
        assert sum(answer["succeeded"] for answer in ended) == READERS
        assert sum(answer["skipped_changes"] for answer in ended) == 0
        assert sum(answer["breaks"] for answer in ended) > READERS // 4  # it was felt
        assert memory.growth_mib < MAX_GROWTH_MIB
        await flood.finish()
        await asyncio.gather(
            *(assert_comes_to_its_end(events, seen=1) for events in dozing),
            *(assert_comes_to_its_end(events) for events in asleep),
        )

"""Clients of a stack that is being broken: they ask, watch to the end, and check that what they were promised was kept.

Everything that they are told is put down, and checked offline against the record and the bucket, as `make chaos` does.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from easel import objects
from easel.client import Attempt, Client, errors, is_final
from easel.embedded import Stack
from easel.v1.generation_messages_pb2 import CreateGenerationRequest
from easel.v1.generation_pb2 import GenerationSpec, GenerationState
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.chaos import checks, evidence, journal, run
from tests.chaos.caller import Caller, Position, Switchboard
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Fate, Journal
from tests.chaos.wishes import Wish

Found = TypeVar("Found")

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.02
#: A gateway says UNAVAILABLE after 5 s, for whatever it waits; the rest is for the machine.
ANSWER_SECONDS = 10.0


class Endless:
    """Drawings that go on until they are told to come to their end, for close to a minute if nobody tells them."""

    def __init__(self, folder: Path, *, steps: int = 1000) -> None:
        self._hurry = folder / "hurry"
        self.steps = steps
        self.script = f"step={50 / steps} until={self._hurry}"

    def end(self) -> None:
        self._hurry.touch()


async def until(condition: Callable[[], Awaitable[Found]], *, seconds: float = PATIENCE_SECONDS) -> Found:
    """Ask again and again until something is so, or there, and return it."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110  # it is a question to a server
            await asyncio.sleep(LOOK_SECONDS)
    return found


async def attempts_at(client: Client, generation_id: str) -> Sequence[Attempt]:
    """List the attempts at a generation."""
    return [attempt async for attempt in client.list_attempts(generation_id)]


async def ask_once(target: str, wish: Wish) -> str:
    """Ask a gateway once, as no client of ours does: they ask again by themselves. Return the generation's id.

    Raises:
        EaselError: it refused; or DeadlineExceeded, when it did not answer in good time.
    """
    request = CreateGenerationRequest(request_id=wish.request_id, spec=wish.spec)
    async with grpc.aio.insecure_channel(target) as channel:
        try:
            answer = await GenerationServiceStub(channel).CreateGeneration(request, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc(error) from error
    return str(answer.generation.id)


async def count_objects(stack: Stack, generation_id: str) -> int:
    """Count what lies in the bucket for a generation."""
    settings = run.storage(stack)
    minio = objects.connect(settings, endpoint=settings.s3_endpoint)
    found = partial(minio.list_objects, settings.s3_bucket, prefix=f"results/{generation_id}/", recursive=True)
    return len(await asyncio.to_thread(lambda: list(found())))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How everything ended that was asked for."""

    evidence: Evidence

    def outcomes(self, generation_id: str) -> Sequence[str]:
        """List how the attempts at a generation ended, in their order."""
        return [row["outcome"] for row in self.evidence.attempts if row["id"] == generation_id]

    def assert_drawn_once(self, *generation_ids: str) -> None:
        """No attempt was lost, failed or repeated."""
        assert {id_: self.outcomes(id_) for id_ in generation_ids} == {id_: ["SUCCEEDED"] for id_ in generation_ids}


class Clients:
    """Some clients of both gateways of a stack; use them as `async with Clients(stack, folder) as clients:`.

    Args:
        stack: The stack.
        folder: Where they put down what they are told.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._journal = Journal(folder / "journal.jsonl")
        self._file = folder / "journal.jsonl"
        self._switchboard = Switchboard(run.targets(stack))
        self._positions: dict[str, Position] = {}
        self._watching: set[asyncio.Task[Any]] = set()
        self._request_ids: set[str] = set()
        self._count = 0

    async def __aenter__(self) -> Self:
        await self._switchboard.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._switchboard.__aexit__(kind, error, traceback)
        self._journal.__exit__()

    def wish(
        self,
        script: str = "",
        *,
        steps: int = 4,
        image_count: int = 1,
        width: int = 64,
        model: str = "scripted",
        fate: Fate = Fate.HEALTHY,
    ) -> Wish:
        """Think of something that is going to be asked for; the script says what becomes of it."""
        request_id = uuid.uuid4().hex
        # The id makes every prompt, and with it every picture, one of its own.
        spec = GenerationSpec(
            prompt=f"{script} {request_id}", steps=steps, image_count=image_count, width=width, model=model
        )
        wish = Wish(request_id=request_id, fate=fate, spec=spec)
        self._request_ids.add(request_id)
        self._caller().announce(wish)
        return wish

    async def accept(self, wish: Wish) -> str:
        """Have a wish accepted, however often it takes, and have it watched to its end from now on; return its id."""
        caller = self._caller()
        generation = await caller.create(wish)
        if generation.id not in self._positions:
            position = self._positions[generation.id] = Position(generation_id=generation.id)
            self._watching.add(asyncio.create_task(caller.watch_to_the_end(position)))
        return generation.id

    async def ask(
        self, script: str = "", *, steps: int = 4, image_count: int = 1, width: int = 64, model: str = "scripted"
    ) -> str:
        """Have something accepted and watched, and return its id; see `wish`."""
        return await self.accept(self.wish(script, steps=steps, image_count=image_count, width=width, model=model))

    async def ask_often(
        self, count: int, script: str = "", *, steps: int = 4, model: str = "scripted"
    ) -> Sequence[str]:
        """Ask for several at once."""
        return await asyncio.gather(*(self.ask(script, steps=steps, model=model) for _ in range(count)))

    def state(self, generation_id: str) -> str:
        """Say what state its watcher saw last; nothing if it has seen none yet."""
        generation = self._positions[generation_id].generation
        return GenerationState.Name(generation.state).removeprefix("GENERATION_STATE_") if generation else ""

    async def is_at(self, generation_id: str, attempt: int) -> bool:
        """Whether its watcher has seen it come to an attempt."""
        generation = self._positions[generation_id].generation
        return generation is not None and generation.attempt_count >= attempt

    async def until_seen(self, state: str, *generation_ids: str) -> None:
        """Wait until the watchers of these have seen them come to a state; fail when one ends in another."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for generation_id in generation_ids:
                while self.state(generation_id) != state:
                    generation = self._positions[generation_id].generation
                    assert generation is None or not is_final(generation), generation
                    await asyncio.sleep(LOOK_SECONDS)

    async def assert_kept(self) -> Kept:
        """Wait until everybody has seen the end; check all that they were told, the record and the bucket."""
        await asyncio.gather(*self._watching)
        await run.inspect(self._stack, self._journal, journal.read(self._file))
        found = await evidence.collect(
            self._stack.servers.postgres.url, run.storage(self._stack), request_ids=self._request_ids
        )
        assert checks.check(journal.read(self._file), found) == []
        return Kept(evidence=found)

    def _caller(self) -> Caller:
        self._count += 1
        return Caller(f"client-{self._count}", self._switchboard.gateways, self._journal, random.Random(self._count))

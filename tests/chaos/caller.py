"""One client's calls to two gateways: repeated until they are answered, with every answer put down."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc.aio

from easel.client import Client, EaselError, Event, is_final
from easel.client import errors as client_errors
from easel.client.channel import connect
from easel.client.errors import DeadlineExceeded, Exhausted, Unavailable
from easel.v1.generation_messages_pb2 import WatchGenerationRequest
from easel.v1.generation_pb2 import FailureReason, Generation, GenerationState
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.chaos.journal import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    Journal,
    Refused,
    Seen,
    Sent,
    WatchEnded,
    Watching,
    WatchStarted,
)
from tests.chaos.wishes import Wish

#: A call without an answer by then is made again, at the other gateway: it may have been carried out or not.
CALL_SECONDS = 5.0
#: A stream is left after this time, and resumed at the other gateway.
STREAM_SECONDS = 10.0
#: Between two tries, at random.
PAUSE_SECONDS = (0.05, 0.5)
#: Far longer than anything takes, many outages in a row included: a client without an answer by then was lost.
PATIENCE_SECONDS = 120.0

Answer = TypeVar("Answer", Generation, Sequence[Generation])

_UNKNOWN_OUTCOME = (Unavailable, DeadlineExceeded, Exhausted)


class GaveUp(Exception):
    """A client did not get what it was promised; the journal says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gateway:
    """The ways to one gateway."""

    name: str
    client: Client
    stub: GenerationServiceStub
    channel: grpc.aio.Channel


class Switchboard:
    """Connections to gateways, shared by the callers of one client."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = targets
        self.gateways: list[Gateway] = []

    async def __aenter__(self) -> "Switchboard":
        for name, target in self._targets.items():
            client = await Client(target, patience_seconds=CALL_SECONDS, call_seconds=CALL_SECONDS).__aenter__()
            channel = connect(target)
            self.gateways.append(
                Gateway(name=name, client=client, stub=GenerationServiceStub(channel), channel=channel)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for gateway in self.gateways:
            await gateway.client.close()
            await gateway.channel.close()


class Caller:
    """Somebody who does one thing after the other, and puts down what it was told.

    Args:
        name: Who.
        gateways: Where it asks; at random, and elsewhere after a failure.
        journal: Where it puts that down.
        chance: Its dice.
    """

    def __init__(self, name: str, gateways: Sequence[Gateway], journal: Journal, chance: random.Random) -> None:
        self.name = name
        self.chance = chance
        self._gateways = gateways
        self._journal = journal
        self._turn = chance.randrange(len(gateways))

    def alike(self, suffix: str) -> "Caller":
        """Make another one, who may act at the same time."""
        return Caller(f"{self.name}/{suffix}", self._gateways, self._journal, self.chance)

    def announce(self, wish: Wish) -> None:
        """Put down what is about to be asked for."""
        self._journal.write(
            Sent(
                request_id=wish.request_id,
                fate=wish.fate,
                image_count=wish.spec.image_count or 1,
                prompt=wish.spec.prompt,
                seed=wish.spec.seed if wish.spec.HasField("seed") else None,
            ),
            by=self.name,
        )

    async def create(self, wish: Wish) -> Generation:
        """Have a wish accepted, however often it takes."""
        generation = await self._ask(
            wish.request_id, lambda client: client.create(wish.spec, request_id=wish.request_id)
        )
        self._accept(wish.request_id, generation)
        return generation

    async def batch_create(self, wishes: Sequence[Wish]) -> Sequence[Generation]:
        """Have wishes accepted together, however often it takes."""
        specs, request_ids = [wish.spec for wish in wishes], [wish.request_id for wish in wishes]
        generations = await self._ask(
            request_ids[0], lambda client: client.batch_create(specs, request_ids=request_ids)
        )
        for request_id, generation in zip(request_ids, generations, strict=True):
            self._accept(request_id, generation)
        return generations

    async def retry(self, generation_id: str, *, request_id: str) -> Generation:
        """Have a final generation retried, however often it takes."""
        generation = await self._ask(request_id, lambda client: client.retry(generation_id, request_id=request_id))
        self._accept(request_id, generation)
        return generation

    async def get(self, generation_id: str) -> Generation:
        """Look at a generation."""
        return await self._ask(generation_id, lambda client: client.get(generation_id))

    async def list(self, *, page_size: int = 20) -> None:
        """Look at the newest generations."""
        await self._ask_for_page("the list", page_size)

    async def cancel(self, generation_id: str) -> Generation:
        """Cancel a generation, however often it takes."""
        self._journal.write(CancelAsked(id=generation_id), by=self.name)
        generation = await self._ask(generation_id, lambda client: client.cancel(generation_id))
        answer = CancelAnswered(id=generation_id, state=_state(generation))
        self._journal.write(answer, by=self.name)
        return generation

    async def generate(self, wish: Wish) -> AsyncGenerator[Event, None]:
        """Ask and watch in one call, once; who leaves it, or is left by it, can come back by other ways."""
        gateway = self._next_gateway()
        stream, asked, generation_id = self._journal.new_stream(), self._journal.now, ""
        how = WatchEnded.LEFT
        events = gateway.client.generate(wish.spec, request_id=wish.request_id)
        try:
            async for event in events:
                if not generation_id:
                    generation_id = event.generation.id
                    self._journal.write(Accepted(request_id=wish.request_id, id=generation_id), by=self.name)
                    self._journal.write(WatchStarted(id=generation_id, stream=stream, revision=0), by=self.name)
                    self._see(event.generation, gateway, asked=asked, stream=stream)
                elif event.is_transition:
                    self._see(event.generation, gateway, asked=None, stream=stream)
                yield event
            how = WatchEnded.OK
        except _UNKNOWN_OUTCOME as error:
            how = type(error).__name__
        except EaselError as error:
            how = type(error).__name__
            raise self._refused(wish.request_id, error) from error
        finally:
            await events.aclose()
            if generation_id:
                self._journal.write(WatchEnded(id=generation_id, stream=stream, how=how), by=self.name)

    async def watch_to_the_end(self, position: "Position") -> Generation:
        """Watch a generation until it is final, over as many streams as that takes."""
        generation_id = position.generation_id
        self._journal.write(Watching(id=generation_id), by=self.name)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while position.generation is None or not is_final(position.generation):
                    await self.watch(position)
                    if position.broken:
                        await self._pause()
        except TimeoutError:
            raise self._gave_up(generation_id, "the watch did not come to an end") from None
        return position.generation

    async def watch(self, position: "Position") -> None:
        """Watch a generation over one stream, however it ends, and move the position on."""
        gateway = self._next_gateway()
        request = WatchGenerationRequest(id=position.generation_id, resume_token=position.token)
        # With a token it is shown what came after it, else how things stand: nothing older than what anybody saw.
        stream, asked = self._journal.new_stream(), None if position.token else self._journal.now
        self._journal.write(
            WatchStarted(id=position.generation_id, stream=stream, revision=position.revision), by=self.name
        )
        how, position.broken = WatchEnded.LEFT, True
        try:
            async for message in gateway.stub.WatchGeneration(request, timeout=STREAM_SECONDS):
                position.token = message.resume_token
                if message.HasField("generation"):
                    position.generation = message.generation
                    self._see(message.generation, gateway, asked=asked, stream=stream)
                    asked = None
            how, position.broken = WatchEnded.OK, False
        except grpc.aio.AioRpcError as error:
            how = error.code().name
            if not client_errors.is_break(error) and error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._refused(position.generation_id, client_errors.from_rpc(error)) from error
        finally:
            self._journal.write(WatchEnded(id=position.generation_id, stream=stream, how=how), by=self.name)

    async def _ask_for_page(self, subject: str, page_size: int) -> None:
        gateway, asked = self._next_gateway(), self._journal.now
        try:
            page = await gateway.client.list_page(page_size=page_size)
        except _UNKNOWN_OUTCOME:
            return
        except EaselError as error:
            raise self._refused(subject, error) from error
        for generation in page.generations:
            self._see(generation, gateway, asked=asked)

    async def _ask(self, subject: str, call: Callable[[Client], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    gateway, asked = self._next_gateway(), self._journal.now
                    try:
                        answer = await call(gateway.client)
                    except _UNKNOWN_OUTCOME:
                        await self._pause()
                        continue
                    for generation in (answer,) if isinstance(answer, Generation) else answer:
                        self._see(generation, gateway, asked=asked)
                    return answer
        except TimeoutError:
            raise self._gave_up(subject, "no answer") from None
        except EaselError as error:
            raise self._refused(subject, error) from error

    def _accept(self, request_id: str, generation: Generation) -> None:
        self._journal.write(Accepted(request_id=request_id, id=generation.id), by=self.name)

    def _see(self, generation: Generation, gateway: Gateway, *, asked: float | None, stream: int | None = None) -> None:
        seen = Seen(
            id=generation.id,
            revision=generation.revision,
            state=_state(generation),
            attempt=generation.attempt_count,
            images=[(image.index, image.sha256, image.size_bytes) for image in generation.images],
            failure_reason=_failure_reason(generation),
            gateway=gateway.name,
            asked=asked,
            stream=stream,
        )
        self._journal.write(seen, by=self.name)

    def _refused(self, subject: str, error: EaselError) -> GaveUp:
        return self._gave_up(subject, f"{type(error).__name__}: {error}")

    def _gave_up(self, subject: str, problem: str) -> GaveUp:
        self._journal.write(Refused(subject=subject, problem=problem), by=self.name)
        return GaveUp(f"{self.name}: {subject}: {problem}")

    def _next_gateway(self) -> Gateway:
        self._turn += 1
        return self._gateways[self._turn % len(self._gateways)]

    async def _pause(self) -> None:
        await asyncio.sleep(self.chance.uniform(*PAUSE_SECONDS))


@dataclass(kw_only=True, slots=True)
class Position:
    """How far a client has come in watching a generation, which is all that it keeps when it dies."""

    generation_id: str
    token: str = ""
    generation: Generation | None = None
    broken: bool = False

    @property
    def revision(self) -> int:
        """What its token stands for, as far as it knows."""
        return self.generation.revision if self.generation is not None and self.token else 0


def _failure_reason(generation: Generation) -> str:
    """Name why it FAILED; a newer version may have reasons that are not known here."""
    if not generation.HasField("failure"):
        return ""
    found = FailureReason.DESCRIPTOR.values_by_number.get(generation.failure.reason)
    return "UNKNOWN" if found is None else found.name.removeprefix("FAILURE_REASON_")


def _state(generation: Generation) -> str:
    return GenerationState.Name(generation.state).removeprefix("GENERATION_STATE_")

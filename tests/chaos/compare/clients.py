"""Clients that ask, ask again when they got no answer, and wait for their pictures; the same for every contender."""

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

#: What each request asks for: as long as the scripted pictures of Easel's other runs.
STEPS = 5
STEP_SECONDS = 0.03
#: How many requests are under way at the same time.
OUTSTANDING = 12
#: How long a client waits for a picture: many times what anything takes.
PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.05

Answer = TypeVar("Answer")


class Front(Protocol):
    """What a client talks to."""

    async def create(self, request_id: str) -> str | None:
        """Ask for a picture and return its id, or None when there was no answer; the same request_id is one job."""
        ...

    async def is_done(self, job_id: str) -> bool | None:
        """Ask whether the picture is there; None when there was no answer."""
        ...


@dataclass
class Job:
    """What a client knows of its request."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.monotonic)
    #: None until it is accepted.
    id: str | None = None
    finished: float | None = None


class Clients:
    """A number of clients, each with one job at a time."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._stopping = False
        self.jobs: list[Job] = []

    @property
    def accepted(self) -> list[Job]:
        """The jobs that somebody was told are accepted."""
        return [job for job in self.jobs if job.id is not None]

    async def run(self) -> None:
        """Let everybody ask on until told to stop, and then wait for what they asked for."""
        async with asyncio.TaskGroup() as group:
            for _ in range(OUTSTANDING):
                group.create_task(self._ask_on())

    def stop(self) -> None:
        """Let nobody ask for more."""
        self._stopping = True

    async def _ask_on(self) -> None:
        while not self._stopping:
            job = Job()
            self.jobs.append(job)
            # A client gives up on a job that never ends, so that the load goes on.
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._see_through(job)
            except TimeoutError:
                continue

    async def _see_through(self, job: Job) -> None:
        while job.id is None:
            job.id = await _answered(self._front.create(job.request_id))
        while job.finished is None:
            await asyncio.sleep(POLL_SECONDS)
            if await _answered(self._front.is_done(job.id)):
                job.finished = time.monotonic()


async def _answered(asking: Awaitable[Answer | None]) -> Answer | None:
    answer = await asking
    if answer is None:
        await asyncio.sleep(POLL_SECONDS)
    return answer

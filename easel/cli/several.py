"""`easel generate` with several prompts: accepted in batches, drawn side by side, and one that fails stops no other."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from easel.cli import destination
from easel.cli.bars import Bars, bars_for
from easel.cli.description import describe, print_json
from easel.cli.drawing import NotDrawn, Wishes, describe_drawn, finish, repeatable
from easel.cli.exits import NO_PICTURE, complain
from easel.cli.run import run, say, status_of
from easel.cli.terminal import Output
from easel.client import (
    Client,
    Conflict,
    DeadlineExceeded,
    EaselError,
    Exhausted,
    Generation,
    GenerationSpec,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from easel.client.outage import Deadline, Outage

#: What the service takes in one call, with room for the rest of the message.
BATCH_LENGTH = 100
BATCH_BYTES = 900_000

#: How long a full backlog, or a service out of reach, is waited for before a generation is given up.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Job:
    """One of the generations that are asked for."""

    spec: GenerationSpec
    request_id: str


def draw_several(
    spec: GenerationSpec,
    prompts: Sequence[str],
    *,
    target: str,
    wishes: Wishes,
    request_id: str,
    at_once: int,
    as_json: bool,
) -> None:
    """Run the command: draw the same with each of the prompts.

    Raises:
        typer.BadParameter: something cannot be written where it should go.
        typer.Exit: some or all failed, or it was interrupted, and it was printed which and why.
    """
    wishes.check()
    request_id = request_id or uuid.uuid4().hex
    jobs = [Job(_with_prompt(spec, prompt), f"{request_id}-{number}") for number, prompt in enumerate(prompts)]
    with repeatable(request_id):
        failures = run(_draw(jobs, target=target, wishes=wishes, at_once=at_once, as_json=as_json), target=target)
    if failures:
        raise typer.Exit(complain_of(failures, total=len(jobs), target=target))


def check_folder(out: Path | None) -> Path | None:
    """Make the folder that `--out` names, since each of several prompts has files of its own.

    Raises:
        typer.BadParameter: it names a file, or nothing can be written there.
    """
    if out is None:
        return None
    if out.is_file() or destination.names_a_picture(out):
        raise typer.BadParameter(f"{out} is a file, and several prompts need a folder", param_hint="--out")
    destination.check_folder(out, option="--out")
    return out


def complain_of(failures: Sequence[EaselError], *, total: int, target: str) -> int:
    """Print a line for each kind of failure, and return the exit status: theirs, where it is the same for all."""
    if total == 1:
        complain(say(failures[0], target=target))
    else:
        kinds = (each.outcome if isinstance(each, NotDrawn) else say(each, target=target) for each in failures)
        for kind, count in Counter(kinds).items():
            complain(f"{count} of {total} failed: {kind}")
    statuses = {status_of(error) for error in failures}
    return statuses.pop() if len(statuses) == 1 else NO_PICTURE


async def _draw(
    jobs: Sequence[Job], *, target: str, wishes: Wishes, at_once: int, as_json: bool
) -> Sequence[EaselError]:
    console = Output(quiet=as_json)
    async with Client(target) as client:
        with bars_for(console, total=len(jobs), models=await client.list_models()) as bars:
            several = Several(client, bars, target=target, wishes=wishes, as_json=as_json)
            await several.draw(jobs, at_once=at_once)
    return several.failures


class Several:
    """Draws several generations, shows each, and remembers what failed."""

    def __init__(self, client: Client, bars: Bars, *, target: str, wishes: Wishes, as_json: bool) -> None:
        self.failures: list[EaselError] = []
        self._client = client
        self._bars = bars
        self._target = target
        self._wishes = wishes
        self._as_json = as_json

    async def draw(self, jobs: Sequence[Job], *, at_once: int) -> None:
        """Draw them, so many at once; a batch is accepted only when all of the one before have begun."""
        free = asyncio.Semaphore(at_once)
        try:
            async with asyncio.TaskGroup() as tasks:
                for batch in batches(jobs):
                    async for job, generation in self._accept(batch):
                        await free.acquire()
                        tasks.create_task(self._draw(job, generation)).add_done_callback(lambda _: free.release())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # that nothing can be printed any more, say: the others add nothing

    async def _draw(self, job: Job, generation: Generation) -> None:
        display = self._bars.begin(job.spec.prompt)
        events = self._client.watch(generation.id, on_outage=display.outage)
        try:
            drawn = await finish(self._client, events, display=display, wishes=self._wishes)
        except EaselError as error:
            self._fail(job, error)
        else:
            if self._as_json:
                print_json(describe_drawn(drawn, request_id=job.request_id))

    async def _accept(self, batch: Sequence[Job]) -> AsyncGenerator[tuple[Job, Generation], None]:
        """Have a batch accepted; halve one that is refused as a whole until it shows which of it is at fault."""
        try:
            accepted = await self._create(batch)
        except (InvalidRequest, NotFound, Conflict, Exhausted) as error:
            if len(batch) == 1:
                self._refuse(batch, error)
                return
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                async for each in self._accept(half):
                    yield each
        except EaselError as error:
            self._refuse(batch, error)
        else:
            for each in zip(batch, accepted, strict=True):
                yield each

    async def _create(self, batch: Sequence[Job]) -> Sequence[Generation]:
        outage = Outage(patience_seconds=PATIENCE_SECONDS, deadline=Deadline(None), on_outage=self._bars.held_up)
        while True:
            try:
                accepted = await self._client.batch_create(
                    [job.spec for job in batch], request_ids=[job.request_id for job in batch]
                )
            except (Unavailable, DeadlineExceeded) as error:
                await outage.pause(error)
            except Exhausted as error:
                if len(batch) > 1:
                    raise  # a smaller one may fit
                await outage.pause(error)
            else:
                outage.over()
                return accepted

    def _refuse(self, batch: Sequence[Job], error: EaselError) -> None:
        for job in batch:
            self._bars.refused(job.spec.prompt, say(error, target=self._target))
            self._fail(job, error)

    def _fail(self, job: Job, error: EaselError) -> None:
        self.failures.append(error)
        if not self._as_json:
            return
        if isinstance(error, NotDrawn):
            print_json(describe(error.generation, request_id=job.request_id))
        else:
            print_json(
                {"request_id": job.request_id, "prompt": job.spec.prompt, "error": say(error, target=self._target)}
            )


def _with_prompt(spec: GenerationSpec, prompt: str) -> GenerationSpec:
    result = GenerationSpec(prompt=prompt)
    result.MergeFrom(spec)
    return result


def batches(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Cut jobs into pieces that the service takes in one call."""
    batch: list[Job] = []
    size_bytes = 0
    for job in jobs:
        job_bytes = job.spec.ByteSize() + len(job.request_id)
        if batch and (len(batch) == BATCH_LENGTH or size_bytes + job_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(job)
        size_bytes += job_bytes
    if batch:
        yield batch

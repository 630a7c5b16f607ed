"""Yesterday's PostgreSQL beside today's NATS, S3, workers and clients, all of which know more than it does."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from easel import objects, subjects
from easel.bus import Bus
from easel.client import Client, NotFound
from easel.embedded import Stack
from easel.embedded.process import Process
from easel.embedded.services import Worker
from easel.v1.generation_pb2 import FailureReason, Generation, GenerationSpec, GenerationState
from tests.chaos import evidence, run
from tests.faults.backups import Backup, BaseBackup, Dump
from tests.faults.clients import until
from tests.faults.conftest import SETTINGS
from tests.faults.parts import worker_beside

CANCELLED = GenerationState.GENERATION_STATE_CANCELLED
FAILED = GenerationState.GENERATION_STATE_FAILED
RUNNING = GenerationState.GENERATION_STATE_RUNNING
SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED

#: More than any of this takes: who is told to hurry has not come to the middle.
SLOW_STEPS = 1000
SLOW = "step=0.2"
PATIENCE_SECONDS = 90.0
FINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
#: What says in a log that somebody erred, and was not only out of luck.
DEFECTS = ("CRITICAL", "action=defect", "action=unreadable")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to back up and restore, and the moment of the backup."""

    backup: Callable[..., Backup]
    #: Whether some of the work was RUNNING then, or all of it QUEUED.
    running: bool
    #: Whether gateways stop before, as the guide has it; else the record changes under them, as by a failover.
    stops: bool


@dataclass
class Day:
    """What was asked for on one day, by what is to become of it, and how it ended."""

    asked: dict[str, Generation] = field(default_factory=dict)
    ended: dict[str, Generation] = field(default_factory=dict)
    request_ids: dict[str, str] = field(default_factory=dict)


class Office:
    """Asks for things, and sees to what becomes of them.

    Args:
        stack: Where; both of its workers serve the model `scripted`, and have one slot each.
        client: On whose behalf.
        held: A worker of a model `held`, with one slot.
        folder: Where what is drawn slowly looks for a file that tells it to hurry.
    """

    def __init__(self, stack: Stack, client: Client, *, held: Worker, folder: Path) -> None:
        self._stack = stack
        self._client = client
        self._workers = [*stack.workers, held]
        self._folder = folder

    async def yesterday(self, *, running: bool) -> Day:
        """Ask for what the backup knows of: some is drawn already, and the rest is RUNNING or QUEUED in the end."""
        day = Day()
        for name in ("finished", "deleted"):
            await self._ask(day, name)
            await self._see(day, name)
        if not running:
            await asyncio.gather(*(worker.stop() for worker in self._workers))
        await self._ask(day, "drawn", self._slow(1))
        await self._ask(day, "failed", f"{self._slow(1)} fail=model_error")
        await self._ask(day, "held", self._slow(3), model="held")
        if running:
            await asyncio.gather(*(self._until_running(day.asked[name]) for name in ("drawn", "failed", "held")))
        await self._ask(day, "cancelled", priority=-1)
        await self._ask(day, "in time", timeout=timedelta(hours=1))
        return day

    async def today(self, yesterday: Day) -> Day:
        """Do a day's work that the backup does not know of; some of it goes on."""
        day = Day()
        await self._client.cancel(yesterday.asked["cancelled"].id)
        await self._client.delete(yesterday.asked["deleted"].id)
        await asyncio.gather(*(worker.start() for worker in self._workers if not worker.is_running))
        self._hurry(1)
        for name in ("cancelled", "in time", "failed", "drawn"):
            await self._see(yesterday, name)
        await self._ask(day, "finished")
        await self._see(day, "finished")
        await self._ask(day, "drawing", self._slow(2))
        await self._ask(day, "hinted", model="held")
        await self._until_running(yesterday.asked["held"])
        await self._until_running(day.asked["drawing"])
        await until(partial(self._is_hinted, day.asked["hinted"]))
        return day

    async def ask_again(self, day: Day, name: str) -> Generation:
        """Send what was sent before once more."""
        return await self._client.create(day.asked[name].spec, request_id=day.request_ids[name])

    def hurry(self) -> None:
        """Let all that is slow hurry."""
        self._hurry(2)
        self._hurry(3)

    async def _ask(
        self, day: Day, name: str, script: str = "", *, timeout: timedelta | None = None, **how: Any
    ) -> None:
        day.request_ids[name] = uuid.uuid4().hex
        # The request_id makes every picture one of its own.
        spec = GenerationSpec(**{"model": "scripted", "prompt": f"{script} {day.request_ids[name]}", **how})
        spec.steps = SLOW_STEPS if SLOW in script else 4
        if timeout is not None:
            spec.timeout.FromTimedelta(timeout)
        day.asked[name] = await self._client.create(spec, request_id=day.request_ids[name])

    async def _see(self, day: Day, name: str) -> None:
        day.ended[name] = await end_of(self._client, day.asked[name].id)

    def _slow(self, number: int) -> str:
        return f"{SLOW} until={self._file(number)}"

    def _hurry(self, number: int) -> None:
        self._file(number).touch()

    def _file(self, number: int) -> Path:
        return self._folder / f"hurry-{number}"

    async def _until_running(self, generation: Generation) -> None:
        async def is_running() -> bool:
            return (await self._client.get(generation.id)).state == RUNNING

        await until(is_running)

    async def _is_hinted(self, generation: Generation) -> bool:
        return await count_hints(self._stack, subjects.task("held", generation.id)) == 1


class Logs:
    """What gateways and workers have logged since."""

    def __init__(self, *processes: Process) -> None:
        self._offsets = {process.log: process.log.stat().st_size for process in processes}

    def defects(self) -> Sequence[str]:
        """List the lines that tell of a defect."""
        written = chain.from_iterable(
            file.read_bytes()[offset:].decode().splitlines() for file, offset in self._offsets.items()
        )
        return [line for line in written if any(sign in line for sign in DEFECTS)]


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("restore")
    # One at a time, so that there is a queue.
    settings = {**SETTINGS, "EASEL_SLOTS": "1"}
    async with Stack(
        folder, gateways=2, workers=2, model="scripted", worker_module="tests.scripted", environment=settings
    ) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.target, patience_seconds=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def office(stack: Stack, client: Client, tmp_path: Path) -> AsyncIterator[Office]:
    async with worker_beside(stack, model="held") as held:
        yield Office(stack, client, held=held, folder=tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Way(backup=Dump, running=False, stops=True), id="queued-by-the-guide"),
        pytest.param(Way(backup=BaseBackup, running=True, stops=False), id="running-under-gateways"),
    ],
)
async def test_yesterday_s_record_beside_today_s_servers(
    stack: Stack, client: Client, office: Office, tmp_path: Path, way: Way
) -> None:
    backup = way.backup(stack.servers, tmp_path)
    strays_before = await find_strays(stack)
    yesterday = await office.yesterday(running=way.running)
    await backup.take()
    today = await office.today(yesterday)
    assert states(yesterday.ended) == {
        **dict.fromkeys(("finished", "deleted", "in time", "drawn"), SUCCEEDED),
        "cancelled": CANCELLED,
        "failed": FAILED,
    }
    known = asyncio.create_task(end_of(client, yesterday.asked["held"].id))
    unknown = asyncio.create_task(end_of(client, today.asked["drawing"].id))
    logs = Logs(*stack.gateways, *stack.workers)

    if way.stops:
        await asyncio.gather(*(gateway.stop() for gateway in stack.gateways))
    await backup.restore()
    await pass_a_day(stack)
    if way.stops:
        await asyncio.gather(*(gateway.start() for gateway in stack.gateways))

    # Whoever watches what the record does not know any more is told so; the others see the end.
    with pytest.raises(NotFound):
        await unknown
    office.hurry()
    assert (await known).state == SUCCEEDED

    # What it knows comes to its one end, and where a picture was told of, to that.
    ends = {name: await end_of(client, generation.id) for name, generation in yesterday.asked.items()}
    assert states(ends) == {**dict.fromkeys(yesterday.asked, SUCCEEDED), "failed": FAILED}
    assert ends["failed"].failure.reason == FailureReason.FAILURE_REASON_MODEL_ERROR
    for name in ("finished", "deleted", "in time", "drawn"):
        assert picture_of(ends[name]) == picture_of(yesterday.ended[name]), name

    # What it does not know is not found, and asked for again it is new.
    for name, lost in today.asked.items():
        with pytest.raises(NotFound):
            await client.get(lost.id)
        again = await office.ask_again(today, name)
        assert again.id != lost.id
        assert (await end_of(client, again.id)).state == SUCCEEDED

    await until(partial(is_at_rest, stack))
    await assert_sound(stack)
    # Nobody can ask for the pictures of what was lost, and operators can find them, and no others.
    strays = {prefix.split("/")[1] for prefix in await find_strays(stack) - strays_before}
    assert today.asked["finished"].id in strays
    assert strays <= {lost.id for lost in today.asked.values()}
    assert logs.defects() == []


async def end_of(client: Client, generation_id: str) -> Generation:
    """Watch a generation to its end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in client.watch(generation_id):
            last = event.generation
    return last


def states(generations: dict[str, Generation]) -> dict[str, int]:
    return {name: generation.state for name, generation in generations.items()}


def picture_of(generation: Generation) -> tuple[str, str]:
    """Say which object a picture is, and what is in it."""
    (image,) = generation.images
    return urlsplit(image.url).path, image.sha256


async def pass_a_day(stack: Stack) -> None:
    """Let the time limits of what was asked for yesterday be over."""
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        await connection.execute("UPDATE generations SET deadline_time = deadline_time - interval '1 day'")


async def count_hints(stack: Stack, subject: str = subjects.ALL_TASKS) -> int:
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    try:
        info = await bus.jetstream.stream_info(subjects.TASKS_STREAM, subjects_filter=subject)
    finally:
        await bus.close()
    return len(info.state.subjects or ())


async def is_at_rest(stack: Stack) -> bool:
    """Whether everything is final, no hint is left, and no worker holds anything."""
    query = "SELECT sum(slots - free_slots) FROM workers WHERE last_seen_time > now() - interval '1 second'"
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        row = await (await connection.execute(query)).fetchone()
    return (
        row == (0,)
        and await evidence.count_unfinished(stack.servers.postgres.url) == 0
        and await count_hints(stack) == 0
    )


async def assert_sound(stack: Stack) -> None:
    """The record, the bucket and what is to be removed from it fit together."""
    found = await evidence.collect(stack.servers.postgres.url, run.storage(stack))
    assert found.unreadable_messages == []
    for generation in found.generations:
        history = [event for event in found.events if event["id"] == generation["id"]]
        assert [event["revision"] for event in history] == list(range(1, generation["revision"] + 1))
        assert [event["state"] in FINAL_STATES for event in history] == [*[False] * (len(history) - 1), True]
        for stored in generation["images"] or ():
            held = found.objects[stored["object_key"]]
            assert (held.sha256, held.is_as_asked) == (stored["image"]["sha256"], True)
            assert not [prefix for prefix in found.object_deletions if stored["object_key"].startswith(prefix)]


async def find_strays(stack: Stack) -> set[str]:
    """Find the prefixes of objects that the record does not know, as the guide tells operators to."""
    settings = run.storage(stack)
    bucket = objects.connect(settings, endpoint=settings.s3_endpoint)
    found = partial(bucket.list_objects, settings.s3_bucket, prefix="results/", recursive=True)
    stored = {str(one.object_name).rpartition("/")[0] + "/" for one in await asyncio.to_thread(lambda: list(found()))}
    query = "SELECT object_prefix FROM attempts UNION SELECT object_prefix FROM object_deletions"
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        rows = await (await connection.execute(query)).fetchall()
    return stored - {prefix for (prefix,) in rows}

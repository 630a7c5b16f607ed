"""Gateways and workers are replaced one by one by a newer version, and then by the old one again, under load."""

import asyncio
import itertools
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from easel import __version__
from easel.client import Client, EaselError, Event, GenerationState, Unavailable
from easel.embedded import Stack
from easel.embedded.process import run_to_end
from easel.embedded.services import Service, module_argv
from easel.v1.generation_pb2 import GenerationSpec
from tests.chaos import checks, evidence, journal, run
from tests.chaos.caller import Caller
from tests.chaos.checks import Finding
from tests.chaos.journal import Fate, Journal, Seen, Sent
from tests.chaos.load import Load
from tests.chaos.wishes import Wish
from tests.faults import future
from tests.faults.clients import Endless, attempts_at, until
from tests.faults.conftest import SETTINGS
from tests.scraping import scrape

PRESENT = future.REPOSITORY
#: Nothing is lost here, so that leases have time for a busy machine; what a worker holds when it goes, it hands back.
OWN_SETTINGS = {"EASEL_LEASE_SECONDS": "10", "EASEL_SWEEP_SECONDS": "0.5", "EASEL_DRAIN_GRACE_SECONDS": "0.5"}
#: So many customers that some of them are at a gateway when it goes.
CLIENTS, CUSTOMERS = 3, 4
PATIENCE_SECONDS = 60.0

SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED
FAILED = GenerationState.GENERATION_STATE_FAILED


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(
        tmp_path / "stack",
        gateways=2,
        workers=2,
        model="scripted",
        worker_module="tests.scripted",
        environment=SETTINGS | OWN_SETTINGS,
    ) as stack:
        yield stack


class Customers:
    """People with this version's client, who must not notice anything."""

    def __init__(self, stack: Stack, written: Journal) -> None:
        self._target = "ipv4:" + ",".join(gateway.target for gateway in stack.gateways)
        self._journal = written
        self._stopping = asyncio.Event()
        self.events: list[Event] = []
        #: What the client mended.
        self.breaks: list[EaselError] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CUSTOMERS):
                group.create_task(self._come_again(number))

    def stop(self) -> None:
        self._stopping.set()

    async def _come_again(self, number: int) -> None:
        caller = Caller(f"customer-{number}", [None], self._journal, random.Random(number))  # type: ignore[list-item]
        async with Client(self._target) as client:
            for visit in itertools.count():
                if self._stopping.is_set():
                    return
                spec = GenerationSpec(prompt=f"step=0.02 of {number} for the {visit}th time", model="scripted", steps=8)
                wish = Wish(fate=Fate.HEALTHY, spec=spec)
                caller.announce(wish)
                await self._draw(client, wish)

    async def _draw(self, client: Client, wish: Wish) -> None:
        events = [
            event async for event in client.generate(wish.spec, request_id=wish.request_id, on_outage=self._on_outage)
        ]
        revisions = [event.generation.revision for event in events if event.is_transition]
        # The first stream may have ended before its first message.
        assert revisions == list(range(revisions[0], revisions[-1] + 1))
        assert events[-1].generation.state == SUCCEEDED
        assert await attempts_at(client, events[-1].generation.id)
        self.events += events

    def _on_outage(self, error: EaselError | None) -> None:
        if error is not None:
            self.breaks.append(error)


async def deploy(process: Service, tree: Path) -> None:
    """Replace a process by one of the version in a folder."""
    process._environment = {**process._environment, "PYTHONPATH": str(tree)}
    await process.restart()
    version = __version__ if tree == PRESENT else future.VERSION

    async def is_of_this_version() -> bool:
        with suppress(httpx2.ConnectError):  # a worker is taken for the one before it for a moment
            return (await scrape(process.metrics_url)).value("easel_build_info", version=version) == 1
        return False

    await until(is_of_this_version)


async def migrate(stack: Stack, tree: Path) -> None:
    """Bring the schema to what a version wants, as a deployment does before everything else."""
    environment = {**os.environ, **stack._environment("gateway"), "PYTHONPATH": str(tree)}
    argv = module_argv("gateway", "migrate")
    await run_to_end(f"migrate-{tree.name}", argv=argv, environment=environment, folder=stack.servers.folder)


async def upgrade(stack: Stack, tree: Path) -> None:
    (first_gateway, second_gateway), (first_worker, second_worker) = stack.gateways, stack.workers
    await migrate(stack, tree)
    await deploy(first_gateway, tree)

    async def were_put_off() -> bool:
        """Whether an old worker has got an answer that it does not know."""
        return (await scrape(second_worker.metrics_url)).value("easel_worker_claims_total", answer="UNKNOWN") > 0

    await until(were_put_off, seconds=PATIENCE_SECONDS)
    await deploy(first_worker, tree)
    await deploy(second_worker, tree)
    await look_at_what_is_new(stack)
    await deploy(second_gateway, tree)


async def roll_back(stack: Stack, endless: Endless) -> None:
    (first_gateway, second_gateway), (first_worker, second_worker) = stack.gateways, stack.workers
    await migrate(stack, PRESENT)
    await keep_busy(stack, endless)
    await deploy(first_worker, PRESENT)
    await deploy(first_gateway, PRESENT)
    await deploy(second_worker, PRESENT)
    endless.end()
    await deploy(second_gateway, PRESENT)


async def keep_busy(stack: Stack, endless: Endless) -> None:
    """Have every worker draw something."""
    spec = GenerationSpec(prompt=endless.script, model="scripted", steps=endless.steps, priority=50)
    async with Client(stack.target) as client:
        busy = set[str]()
        # Which worker takes what is left to chance.
        while len(busy) < len(stack.workers):
            drawing = await client.create(spec)
            busy.add((await until(partial(attempts_at, client, drawing.id)))[-1].worker_id)


async def look_at_what_is_new(stack: Stack) -> None:
    """Old clients see what the new version says, whichever gateway they ask, and put up with it."""
    for gateway in stack.gateways:
        async with Client(gateway.target) as client:
            spec = GenerationSpec(prompt=future.BAD_TASTE, model="scripted", priority=100)
            events = [event async for event in client.generate(spec)]
            assert events[-1].generation.state == FAILED
            generation_id = events[-1].generation.id
            (attempt,) = await attempts_at(client, generation_id)
            assert attempt.failure.message == events[-1].generation.failure.message
        for command in (["get", generation_id], ["attempts", generation_id], ["list"]):
            assert await say(*command, target=gateway.target)


async def say(*command: str, target: str) -> str:
    """Run `easel`, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "easel", *command, "--target", target),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return output.decode()


async def ask(stack: Stack, query: str) -> Sequence[tuple[str, ...]]:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        return await (await connection.execute(query)).fetchall()


async def find_broken_promises(stack: Stack, written: Journal, file: Path) -> Sequence[Finding]:
    await run._come_to_rest(stack)
    await run.inspect(stack, written, journal.read(file))
    facts = journal.read(file)
    asked_for = {fact.request_id for fact in facts if isinstance(fact, Sent)}
    found = await evidence.collect(stack.servers.postgres.url, run.storage(stack), request_ids=asked_for)
    # Lists show what else was asked for, too, and that may look different to different versions.
    ids = {row["id"] for row in found.generations}
    return checks.check([fact for fact in facts if not isinstance(fact, Seen) or fact.id in ids], found)


async def assert_there_was_something_new(stack: Stack, events: Sequence[Event]) -> None:
    """All of this would be to no purpose if the new version had said nothing new."""
    assert future.NUMBER in {event.progress.phase for event in events if event.progress is not None}
    assert any(len(UnknownFieldSet(event.generation)) for event in events)
    handed_back = await ask(stack, "SELECT generation_id::text FROM attempts WHERE outcome = 'HANDED_BACK' LIMIT 1")
    assert "UNKNOWN" in await say("attempts", handed_back[0][0], target=stack.target)


@pytest.mark.timeout(400)
async def test_upgrade_and_roll_back_one_by_one(stack: Stack, endless: Endless, tmp_path: Path) -> None:
    tree = future.make(tmp_path / "future")
    file = tmp_path / "journal.jsonl"
    with Journal(file) as written:
        load = Load(run.targets(stack), written, clients=CLIENTS, seed=1)
        customers = Customers(stack, written)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            group.create_task(customers.run())
            await upgrade(stack, tree)
            await roll_back(stack, endless)
            load.stop()
            customers.stop()
        assert await find_broken_promises(stack, written, file) == []
    assert load.disappointed == 0
    assert {type(error) for error in customers.breaks} == {Unavailable}
    assert await ask(stack, "SELECT generation_id::text FROM attempts WHERE outcome = 'LOST'") == []
    assert await ask(stack, "SELECT subject, error FROM unreadable_messages") == []
    await assert_there_was_something_new(stack, customers.events)
    for process in (*stack.gateways, *stack.workers):
        assert "defect" not in process.log.read_text(), process.log

"""One run: a stack, load on it, a nemesis, and at the end a look at what is left."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from pydantic import SecretStr

from easel.embedded import Stack
from easel.settings import Settings
from tests.chaos import checks, evidence, journal, scale
from tests.chaos.caller import Caller, GaveUp, Switchboard
from tests.chaos.checks import INSPECTOR, Finding
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Accepted, Fact, Journal
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis
from tests.chaos.recovery import Recovery
from tests.chaos.schedule import Strike

#: How long everything gets to come to rest once nothing is broken any more.
REST_SECONDS = 180.0
LOOK_SECONDS = 0.2
#: How many questions are under way at the end.
INSPECTIONS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What a run brought to light."""

    schedule: Sequence[Strike]
    duration_seconds: float
    facts: Sequence[Fact]
    evidence: Evidence
    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be run."""

    seed: int
    schedule: Sequence[Strike]
    clients: int
    pace_seconds: float
    #: No strike begins later than this.
    limit_seconds: float


async def run(plan: Plan, *, folder: Path, on_strike: Callable[[Strike], None]) -> Ran:
    """Do a run in a folder, where its logs, its journal and its evidence stay.

    Raises:
        StackFailed: a part could not be started (again).
    """
    began = time.monotonic()
    stack = Stack(
        folder / "stack",
        gateways=2,
        workers=2,
        model="scripted",
        worker_module="tests.scripted",
        environment=scale.environment(),
    )
    async with stack:
        with Journal(folder / "journal.jsonl") as written:
            struck = await _break(stack, written, plan, on_strike=on_strike)
            await _come_to_rest(stack)
            await inspect(stack, written, journal.read(folder / "journal.jsonl"))
        found = await evidence.collect(stack.servers.postgres.url, storage(stack))
    found.write(folder / "evidence.json")
    facts = journal.read(folder / "journal.jsonl")
    return Ran(
        schedule=struck,
        duration_seconds=time.monotonic() - began,
        facts=facts,
        evidence=found,
        findings=checks.check(facts, found),
    )


async def _break(
    stack: Stack, written: Journal, plan: Plan, *, on_strike: Callable[[Strike], None]
) -> Sequence[Strike]:
    """Let clients come, and break things meanwhile; return what was done."""
    load = Load(targets(stack), written, clients=plan.clients, seed=plan.seed)
    nemesis = Nemesis(
        stack,
        Recovery(targets(stack), written),
        written,
        pace_seconds=plan.pace_seconds,
        on_strike=on_strike,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await nemesis.run(plan.schedule, until=plan.limit_seconds)
        load.stop()
    return nemesis.strikes


async def _come_to_rest(stack: Stack) -> None:
    """Wait until all is final, for as long as that may lawfully take; what is not by then was lost."""
    try:
        async with asyncio.timeout(REST_SECONDS):
            while await evidence.count_unfinished(stack.servers.postgres.url):  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        logger.error("not everything is final after {:.0f} s", REST_SECONDS, action="restless")


async def inspect(stack: Stack, written: Journal, facts: Sequence[Fact]) -> None:
    """Ask both gateways about everything that was accepted."""
    ids = sorted({fact.id for fact in facts if isinstance(fact, Accepted)})
    slots = asyncio.Semaphore(INSPECTIONS)

    async def ask(caller: Caller, generation_id: str) -> None:
        async with slots:
            try:
                await caller.get(generation_id)
            except GaveUp as error:
                logger.error("{}", error, action="gave_up")

    async with Switchboard(targets(stack)) as switchboard, asyncio.TaskGroup() as group:
        for gateway in switchboard.gateways:
            caller = Caller(INSPECTOR, [gateway], written, random.Random(0))
            for generation_id in ids:
                group.create_task(ask(caller, generation_id))


def targets(stack: Stack) -> dict[str, str]:
    return {gateway.name: gateway.target for gateway in stack.gateways}


def storage(stack: Stack) -> Settings:
    environment = {**os.environ, **stack.servers.environment(user="gateway")}
    return Settings(
        s3_endpoint=environment["EASEL_S3_ENDPOINT"],
        s3_bucket=environment["EASEL_S3_BUCKET"],
        s3_access_key=environment["EASEL_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(environment["EASEL_S3_SECRET_KEY"]),
    )

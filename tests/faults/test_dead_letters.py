"""Poison and passing trouble, on a small stack of their own: what becomes a dead letter, and what does not."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from easel.client import AttemptOutcome, Client, FailureReason, Generation, GenerationState, is_final
from easel.embedded import Stack
from easel.v1.generation_pb2 import GenerationSpec
from tests.faults.clients import attempts_at, until
from tests.faults.conftest import SETTINGS
from tests.faults.keeper import kept_running

MAX_LOST_ATTEMPTS = 2
#: More than one, so that a poison request has others beside it.
SLOTS = 3
HEALTHY = 8
BACKOFF = timedelta(seconds=0.1)

DEAD_LETTER = FailureReason.FAILURE_REASON_DEAD_LETTER
FAILED = AttemptOutcome.ATTEMPT_OUTCOME_FAILED
LOST = AttemptOutcome.ATTEMPT_OUTCOME_LOST
SUCCEEDED = AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = {
        **SETTINGS,
        "EASEL_MAX_LOST_ATTEMPTS": str(MAX_LOST_ATTEMPTS),
        "EASEL_RETRY_BACKOFF_SECONDS": str(BACKOFF.total_seconds()),
        "EASEL_SLOTS": str(SLOTS),
        "EASEL_UPLOAD_TIMEOUT_SECONDS": "1",
    }
    folder = tmp_path_factory.mktemp("dead-letters")
    async with Stack(folder, model="scripted", worker_module="tests.scripted", environment=settings) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.target) as client:
        yield client


async def end_of(client: Client, generation_id: str) -> Generation:
    await until(lambda: _is_final(client, generation_id))
    return await client.get(generation_id)


async def _is_final(client: Client, generation_id: str) -> bool:
    return is_final(await client.get(generation_id))


async def easel(*arguments: str, target: str) -> Sequence[dict[str, object]]:
    """Run the command line, and read what it prints for machines."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easel", *arguments, "--json", "--target", target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in printed.splitlines()]


async def test_a_poison_request_becomes_a_dead_letter_and_takes_nobody_with_it(
    stack: Stack, client: Client, tmp_path: Path
) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    poison = GenerationSpec(prompt=f"step=0.05 process=killed while={cause}", steps=4, labels={"fate": "poison"})
    healthy = [GenerationSpec(prompt=f"step=0.02 {number}", steps=4) for number in range(HEALTHY)]
    (worker,) = stack.workers
    async with kept_running(worker):
        accepted = await client.batch_create([*healthy[: HEALTHY // 2], poison, *healthy[HEALTHY // 2 :]])
        poisoned, *others = sorted(accepted, key=lambda one: not one.spec.labels)
        dead = await end_of(client, poisoned.id)
        ended = [await end_of(client, one.id) for one in others]

    assert {one.state for one in ended} == {GenerationState.GENERATION_STATE_SUCCEEDED}
    # Who was beside it the first time was lost with it, and never again.
    losses = [[one.outcome for one in await attempts_at(client, other.id)].count(LOST) for other in others]
    assert max(losses) <= 1

    assert (dead.state, dead.failure.reason) == (GenerationState.GENERATION_STATE_FAILED, DEAD_LETTER)
    assert dead.failure.message == (
        f"given up: {1 + MAX_LOST_ATTEMPTS} attempts were lost or failed; the last one was lost with its worker"
    )
    assert not dead.failure.retryable
    assert [one.id async for one in client.list(failure_reasons=[DEAD_LETTER])] == [poisoned.id]
    attempts = [one for one in await attempts_at(client, poisoned.id) if one.outcome == LOST]
    assert [one.alone for one in attempts] == [False] + [True] * MAX_LOST_ATTEMPTS
    assert len({one.worker_id for one in attempts}) == len(attempts)

    # As an operator does it, once the cause is mended; and once more, because one cannot remember.
    (listed,) = await easel("list", "--failure", "dead-letter", target=stack.target)
    assert listed["id"] == poisoned.id
    shown = await easel("attempts", poisoned.id, target=stack.target)
    assert [one["outcome"] for one in shown].count("LOST") == len(attempts)
    cause.unlink()
    (retried,) = await easel("retry", "--failure", "dead-letter", target=stack.target)
    (again,) = await easel("retry", "--failure", "dead-letter", target=stack.target)
    assert retried["id"] == again["id"] != poisoned.id
    assert retried["retried_from"] == poisoned.id
    drawn = await end_of(client, str(retried["id"]))
    assert drawn.state == GenerationState.GENERATION_STATE_SUCCEEDED
    assert await client.get(poisoned.id) == dead


async def test_while_storage_is_away_a_request_is_retried_with_backoff_and_is_no_dead_letter(
    stack: Stack, client: Client
) -> None:
    stack.servers.s3.kill()
    generation = await client.create(GenerationSpec(prompt="step=0.01", steps=2))

    async def has_failed_often() -> bool:
        # Once more than it takes to be given up, were it the request's fault.
        outcomes = [one.outcome for one in await attempts_at(client, generation.id)]
        return outcomes.count(FAILED) >= 2 + MAX_LOST_ATTEMPTS

    await until(has_failed_often)
    await stack.servers.s3.start()
    drawn = await end_of(client, generation.id)
    assert drawn.state == GenerationState.GENERATION_STATE_SUCCEEDED
    attempts = await attempts_at(client, generation.id)
    assert [one.outcome for one in attempts] == [FAILED] * (len(attempts) - 1) + [SUCCEEDED]
    for number, (one, following) in enumerate(pairwise(attempts)):
        assert (one.failure.reason, one.failure.retryable) == (FailureReason.FAILURE_REASON_STORAGE, True)
        waited = following.start_time.ToDatetime() - one.end_time.ToDatetime()
        assert waited >= BACKOFF * 2**number
    assert not any(one.alone for one in attempts)

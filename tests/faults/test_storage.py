"""S3 is busy, hangs, loses its answers or is out of reach, each time for one worker alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest

from easel.embedded import Stack
from easel.embedded.services import Worker
from tests.faults.clients import Clients, Endless, count_objects, until
from tests.faults.conftest import LONGER_THAN_A_LEASE
from tests.faults.parts import worker_beside
from tests.faults.storefront import Storefront, storefront

#: Far less than the S3 client would wait for an answer by itself.
UPLOAD_TIMEOUT_SECONDS = 2
GIVEN_UP_SECONDS = 15.0


@pytest.fixture
async def front(stack: Stack) -> AsyncIterator[Storefront]:
    async with storefront(stack) as front:
        yield front


def worker_behind(
    front: Storefront, stack: Stack, *, model: str, **settings: str
) -> AbstractAsyncContextManager[Worker]:
    """Run a worker that has a model of its own, and no other way to S3."""
    return worker_beside(stack, model=model, EASEL_S3_ENDPOINT=front.endpoint, **settings)


async def ends_of_attempts(stack: Stack, generation_id: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        query = "SELECT outcome FROM attempts WHERE generation_id = %s AND outcome IS NOT NULL ORDER BY number"
        return [row[0] for row in await (await connection.execute(query, [generation_id])).fetchall()]


async def ask_for_number(stack: Stack, query: str, generation_id: str) -> int:
    async with await psycopg.AsyncConnection.connect(stack.servers.postgres.url) as connection:
        row = await (await connection.execute(query, [generation_id])).fetchone()
    return int(row[0]) if row else 0


async def test_busy_for_a_while(stack: Stack, front: Storefront, clients: Clients) -> None:
    async with worker_behind(front, stack, model="busy"):
        front.be_busy()
        generation_id = await clients.ask(model="busy", image_count=2)
        await until(lambda: front.has_refused(3))
        front.mend()
        kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)


async def test_hangs_for_longer_than_a_lease(stack: Stack, front: Storefront, clients: Clients) -> None:
    async with worker_behind(front, stack, model="hanging"):
        front.dam()
        generation_id = await clients.ask(model="hanging")
        await until(lambda: front.holds(generation_id))
        await asyncio.sleep(LONGER_THAN_A_LEASE)
        front.mend()
        kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)


async def test_hangs_for_longer_than_an_upload_may_take(stack: Stack, front: Storefront, clients: Clients) -> None:
    """It is given up, although nobody hangs up; and what arrives in the end after all does no harm."""
    timeout = str(UPLOAD_TIMEOUT_SECONDS)
    async with worker_behind(front, stack, model="swamp", EASEL_UPLOAD_TIMEOUT_SECONDS=timeout):
        front.dam()
        generation_id = await clients.ask(model="swamp")
        await until(lambda: ends_of_attempts(stack, generation_id), seconds=GIVEN_UP_SECONDS)
        front.mend()
        kept = await clients.assert_kept()
    *others, last = kept.outcomes(generation_id)
    assert set(others) == {"FAILED"}
    assert last == "SUCCEEDED"


async def test_the_answer_to_a_file_that_was_stored_is_lost(stack: Stack, front: Storefront, clients: Clients) -> None:
    async with worker_behind(front, stack, model="mute"):
        front.loses_answers = True
        generation_id = await clients.ask(model="mute")
        await until(lambda: count_objects(stack, generation_id))
        stored = front.lost_answers
        # It is put again, into the same place.
        await until(lambda: front.has_lost(stored + 1))
        front.mend()
        kept = await clients.assert_kept()
        assert await count_objects(stack, generation_id) == 1
    kept.assert_drawn_once(generation_id)


async def test_cut_off_for_longer_than_a_lease(stack: Stack, front: Storefront, clients: Clients) -> None:
    async with worker_behind(front, stack, model="island"):
        front.cut()
        generation_id = await clients.ask(model="island")
        await clients.until_seen("RUNNING", generation_id)
        async with worker_beside(stack, model="island", name="worker-mainland"):
            # Somebody is there who could draw it, and nobody does: its worker renews.
            await asyncio.sleep(LONGER_THAN_A_LEASE)
            front.mend()
            kept = await clients.assert_kept()
    kept.assert_drawn_once(generation_id)


async def test_cut_off_for_longer_than_an_upload_may_take(
    stack: Stack, front: Storefront, clients: Clients, endless: Endless
) -> None:
    """That is not the request's fault: it costs nothing, and another worker draws it."""
    timeout = str(UPLOAD_TIMEOUT_SECONDS)
    async with worker_behind(front, stack, model="exile", EASEL_SLOTS="1", EASEL_UPLOAD_TIMEOUT_SECONDS=timeout):
        front.cut()
        generation_id = await clients.ask(model="exile")
        # While the first is being stored, this one takes up the worker, so that it can take no other.
        long = await clients.ask(endless.script, model="exile", steps=endless.steps)
        await clients.until_seen("RUNNING", generation_id, long)
        async with worker_beside(stack, model="exile", name="worker-home"):
            await clients.until_seen("SUCCEEDED", generation_id)
            front.mend()
            endless.end()
            kept = await clients.assert_kept()
    assert kept.outcomes(generation_id) == ["FAILED", "SUCCEEDED"]
    kept.assert_drawn_once(long)
    who = "SELECT count(DISTINCT worker_id) FROM attempts WHERE generation_id = %s"
    assert await ask_for_number(stack, who, generation_id) == 2
    assert await ask_for_number(stack, "SELECT lost_attempts FROM generations WHERE id = %s", generation_id) == 0

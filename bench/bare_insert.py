"""The least that a durable row costs: the INSERT of a generation with psycopg alone, in a process of its own.

It goes into a table like `generations`, with its defaults, constraints and indexes, but without triggers. Asked `{url,
connections, seconds}`, it answers `{per_second}`; each connection commits one row after the other.
"""

import asyncio
import json
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import uvloop

from bench.callers import SPEC
from bench.child import answer_questions
from gateway.record.documents import to_json

CREATE_TABLE = "CREATE TABLE IF NOT EXISTS bare_generations (LIKE generations INCLUDING ALL)"
INSERT = """
    INSERT INTO bare_generations (owner, request_id, model, priority, spec, resolved_spec)
    VALUES ('default', %s, 'bench', 0, %s, %s)
"""
WARM_UP_ROWS = 10  # psycopg prepares a statement at its sixth run


async def insert(*, url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Insert for so long over so many connections."""
    spec = json.dumps(to_json(SPEC))
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(await _connect(url)) for _ in range(connections)]
        await opened[0].execute(CREATE_TABLE)
        await asyncio.gather(*(_insert(connection, spec, rows=WARM_UP_ROWS) for connection in opened))
        began = time.perf_counter()
        rows = sum(await asyncio.gather(*(_insert_until(each, spec, end=began + seconds) for each in opened)))
        took = time.perf_counter() - began
    return {"per_second": rows / took}


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def _insert(connection: psycopg.AsyncConnection, spec: str, *, rows: int) -> None:
    cursor = connection.cursor()
    for _ in range(rows):
        await cursor.execute(INSERT, (uuid.uuid4().hex, spec, spec))


async def _insert_until(connection: psycopg.AsyncConnection, spec: str, *, end: float) -> int:
    cursor, rows = connection.cursor(), 0
    while time.perf_counter() < end:
        await cursor.execute(INSERT, (uuid.uuid4().hex, spec, spec))
        rows += 1
    return rows


async def main() -> None:
    """Answer until nobody asks any more."""
    await answer_questions(lambda question: insert(**question))


if __name__ == "__main__":
    uvloop.run(main())

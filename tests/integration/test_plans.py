"""How PostgreSQL goes about each statement of the record, on tables where it matters: none reads all that there is.

The plans are those of the very statements, explained while the methods of the record run; what triggers and cascades do
is among them. Each method runs so often that PostgreSQL has changed over to a plan for any parameters where it will.
"""

import inspect
import json
import pkgutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from sqlalchemy import TextClause, event

import gateway.record
from bench import history
from bench.operations import PAGE, WATCHED, Operations, Sample
from easel.embedded import Servers
from gateway.record import listing, schema, tables
from gateway.record.database import Database
from gateway.record.queue import MAX_QUEUE_POSITION
from tests.integration.conftest import TEMPLATE

ROWS = 100_000
#: psycopg prepares a statement at its sixth run, and after five more PostgreSQL may make a plan for any parameters.
RUNS = 12
#: What the runs leave behind, most of it ahead of all others.
SOME_MORE = 1_500

#: What may be read from end to end: a row for each model ever known, and one for each worker of the last day.
SMALL_TABLES = {"models", "workers"}
#: How many rows a statement reads at most with one look at a table: some for each that it is about.
FEW = 3 * PAGE
OPTIONS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}


def most_rows(live: int) -> dict[str, int]:
    """Tell which read more, how much, and what bounds it."""
    running = live // history.RUNNING_ONE_IN + SOME_MORE
    return {
        "Attempts.get_overdue": running,  # all that run are looked at, since a renewal must not touch an index
        "Attempts.requeue_lost": running,
        "Attempts.renew": running,  # all that run, where the statistics know of none
        "Attempts.release": running,
        "Generations.get_revisions": WATCHED,
        "Listing.list_generations: two states": live
        + SOME_MORE,  # all that is live, where the statistics know of nothing
        "Listing.list_generations: a common label": 20 * PAGE + SOME_MORE,  # one in seven has it
        "Listing.list_generations: an hour": int(3600 / history.SECONDS_APART) + SOME_MORE,  # where they end before it
        "Queue.count_live": 3 * live + SOME_MORE,  # each is counted; admission bounds them
        "Queue.get_queue_position: first": MAX_QUEUE_POSITION,
        "Queue.get_queue_position: last": MAX_QUEUE_POSITION,
    }


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a table."""

    kind: str
    table: str
    index: str | None
    rows: float

    @classmethod
    def of(cls, node: dict[str, Any]) -> "Look":
        passed_over = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        return cls(
            kind=node["Node Type"],
            table=node["Relation Name"],
            index=node.get("Index Name"),
            rows=(node["Actual Rows"] + passed_over) * node["Actual Loops"],
        )


def reads_too_much(look: Look, *, most: int) -> bool:
    # Where most of a table is asked for, to read all of it may be the shortest way.
    reads_all = look.kind == "Seq Scan" and most == FEW
    return look.table not in SMALL_TABLES and (reads_all or look.rows > most)


def looks(node: dict[str, Any]) -> Iterator[Look]:
    """Find the looks at tables in a plan."""
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        yield Look.of(node)
    for child in node.get("Plans", ()):
        yield from looks(child)


class Explained:
    """A connection to a record that tells how each statement was gone about."""

    def __init__(self, url: str) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in OPTIONS.items())
        self.database = Database(f"{url}?options={options}", pool_size=1, timeout_seconds=60)
        self.plans: list[dict[str, Any]] = []
        #: The statements of the code that ran.
        self.ran: set[object] = set()
        engine = self.database._engine.sync_engine
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "before_execute", self._on_execute)

    def _on_connect(self, connection: Any, _record: object) -> None:
        connection.driver_connection.add_notice_handler(self._on_notice)

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        _, found, plan = str(notice.message_primary).partition("plan:\n")
        if found:
            self.plans.append(json.loads(plan))

    def _on_execute(self, _connection: object, statement: object, *_: object) -> None:
        self.ran.add(statement)


def clone(servers: Servers, template: str) -> str:
    name = f"plans_{uuid.uuid4().hex}"
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{servers.postgres.url.rpartition('/')[0]}/{name}"


def take_statistics_with_nothing_live(url: str) -> None:
    """Have the statistics of a night, when nothing waits or is drawn; a flood in the morning does not change them."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "SET session_replication_role = replica",
            "ALTER TABLE generations SET (autovacuum_enabled = off)",
            "CREATE TABLE live AS SELECT * FROM generations WHERE state IN ('QUEUED', 'RUNNING')",
            "DELETE FROM generations WHERE state IN ('QUEUED', 'RUNNING')",
            "VACUUM (ANALYZE) generations",
            "INSERT INTO generations SELECT * FROM live",
            "DROP TABLE live",
        ):
            connection.execute(statement)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[Explained, Database]]:
    explained, plain = Explained(url), Database(url, pool_size=1, timeout_seconds=60)
    try:
        yield explained, plain
    finally:
        await explained.database.close()
        await plain.close()


@pytest.mark.parametrize(
    ("live_share", "at_night"),
    [(history.LIVE_SHARE, False), (history.LIVE_SHARE, True), (0.9, False)],
    ids=["by_day", "with_statistics_of_the_night", "in_a_flood"],
)
async def test_no_statement_reads_all_that_there_is(
    servers: Servers, template_url: str, live_share: float, at_night: bool
) -> None:
    url = clone(servers, TEMPLATE)
    history.fill(url, rows=ROWS, live_share=live_share)
    if at_night:
        take_statistics_with_nothing_live(url)
    more = most_rows(int(ROWS * live_share))
    too_much: list[str] = []
    async with connected(url) as (explained, plain):
        operations = Operations(explained.database, stage=plain, sample=await Sample.take(plain))
        for name, prepare in operations.all().items():
            for _ in range(RUNS):
                call = await prepare()
                explained.plans.clear()
                await call()
            assert explained.plans, f"{name} ran no statement"
            seen = (look for plan in explained.plans for look in looks(plan["Plan"]))
            too_much += [f"{name}: {look}" for look in seen if reads_too_much(look, most=more.get(name, FEW))]
    assert too_much == [], "\n".join(too_much)
    assert [name for name, statement in statements() if statement not in explained.ran] == []


def test_no_method_of_the_record_is_left_out() -> None:
    operations = Operations(Mock(), stage=Mock(), sample=Mock()).all()
    assert {name.partition(":")[0] for name in operations} == set(methods())


def methods() -> Iterator[str]:
    """Name the methods that send statements."""
    for module in modules():
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and "database" in inspect.signature(kind).parameters:
                for method, _ in inspect.getmembers(kind, inspect.iscoroutinefunction):
                    yield f"{name}.{method}"


def statements() -> Iterator[tuple[str, TextClause]]:
    """Name the statements of the code, but for parts that are no statements by themselves and those of migrations."""
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, TextClause) and module not in (listing, schema, tables):
                yield f"{module.__name__}.{name}", value


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(gateway.record.__path__, prefix="gateway.record."):
        if not found.ispkg:
            yield import_module(found.name)

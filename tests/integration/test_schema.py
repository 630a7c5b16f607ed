"""The migrations and the tables say the same."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from easel.embedded import Servers
from gateway.record import schema
from gateway.record.database import Database, driver_url
from gateway.record.generations import Generations
from gateway.record.listing import Filter, Listing
from gateway.record.tables import metadata
from tests.integration.test_record import OWNER, create

#: From then on psycopg has a statement prepared.
USES_BEFORE_PREPARED = 5
EXPRESSIONS = {"generations_labels", "generations_failure"}


def test_migrations_make_exactly_the_tables(record_url: str) -> None:
    engine = create_engine(driver_url(record_url))
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            # What an index of an expression is like, alembic cannot compare; a test of lists sees that it is used.
            "include_name": lambda name, _kind, _parents: name not in EXPRESSIONS,
            "include_object": lambda _one, name, *_: name not in EXPRESSIONS,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_indexes_are_the_same_to_the_word(record_url: str, servers: Servers) -> None:
    """Also in what alembic does not look at: expressions, what an index is of, what it includes."""
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE declared")
    declared_url = f"{servers.postgres.url.rpartition('/')[0]}/declared"
    engine = create_engine(driver_url(declared_url))
    metadata.create_all(engine)
    engine.dispose()
    assert indexes(record_url) == indexes(declared_url)


def indexes(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("""
            SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1
        """)
        return [definition for (definition,) in rows]


def test_a_migration_takes_statistics_where_there_are_none(record_url: str) -> None:
    """Without any, as after a restore, PostgreSQL takes a table for small and reads it from end to end."""
    with psycopg.connect(record_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO generations (owner, model, priority, spec, resolved_spec)
            SELECT 'default', 'tiny', 0, '{}', '{}' FROM generate_series(1, 1000)
        """)
        known = "SELECT reltuples FROM pg_class WHERE relname = 'generations'"
        connection.execute("SELECT pg_clear_relation_stats('public', 'generations')")
        assert connection.execute(known).fetchone() == (-1,)
        schema.migrate(record_url)
        assert connection.execute(known).fetchone() == (1000,)


def test_migrating_again_changes_nothing(record_url: str) -> None:
    schema.migrate(record_url)
    assert schema.is_current(record_url)


def test_a_newer_schema_serves_and_stays(record_url: str) -> None:
    with psycopg.connect(record_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert schema.is_current(record_url)
        schema.migrate(record_url)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    assert schema.is_current(record_url)


def test_an_older_schema_does_not_serve(record_url: str) -> None:
    with psycopg.connect(record_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    assert not schema.is_current(record_url)


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    """One connection, which prepares what it is asked often."""
    database = Database(record_url, pool_size=1, timeout_seconds=10)
    yield database
    await database.close()


async def test_columns_are_added_under_statements_that_were_prepared(record_url: str, database: Database) -> None:
    generations, listing = Generations(database), Listing(database)
    generation = await create(generations, request_id="r")

    async def read() -> None:
        assert await generations.get_generation(generation.id, owner=OWNER)
        assert await generations.get_history(generation.id, owner=OWNER, after_revision=0)
        assert await generations.find_requests(owner=OWNER, request_ids=["r"])
        assert await listing.list_generations(Filter(), owner=OWNER, before_id=None, limit=1)
        assert await listing.list_attempts(generation.id, owner=OWNER, after=0, limit=1) == []

    for _ in range(2 * USES_BEFORE_PREPARED):
        await read()
    with psycopg.connect(record_url, autocommit=True) as connection:
        for table in (b"generations", b"attempts", b"events", b"models", b"workers"):
            connection.execute(b"ALTER TABLE %s ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'" % table)
    await read()


def test_an_empty_database_is_not_current(servers: Servers) -> None:
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    assert not schema.is_current(f"{servers.postgres.url.rpartition('/')[0]}/empty")

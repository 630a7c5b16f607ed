"""The migrations and the tables say the same."""

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from easel.embedded import Servers
from gateway.record import schema
from gateway.record.database import driver_url
from gateway.record.tables import metadata

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


def test_migrating_again_changes_nothing(record_url: str) -> None:
    schema.migrate(record_url)
    assert schema.is_current(record_url)


def test_an_empty_database_is_not_current(servers: Servers) -> None:
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    assert not schema.is_current(f"{servers.postgres.url.rpartition('/')[0]}/empty")

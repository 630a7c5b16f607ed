"""Databases of their own for tests that write to the record."""

import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest

from easel.embedded import Servers
from gateway.record import schema
from gateway.record.database import Database
from gateway.record.generations import Generations
from gateway.record.models import Models

TEMPLATE = "easel_template"


def _named(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def template_url(servers: Servers) -> str:
    """A migrated database, made once, to be cloned and never connected to."""
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    url = _named(servers.postgres.url, TEMPLATE)
    schema.migrate(url)
    return url


@pytest.fixture
def record_url(servers: Servers, template_url: str) -> str:
    """A fresh record."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    return _named(servers.postgres.url, name)


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    database = Database(record_url, pool_size=8, timeout_seconds=10)
    yield database
    await database.close()


@pytest.fixture
def generations(database: Database) -> Generations:
    return Generations(database)


@pytest.fixture
def models(database: Database) -> Models:
    return Models(database)

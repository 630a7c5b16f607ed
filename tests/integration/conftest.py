"""A record of its own for each test that writes to one, and two gateways with a scripted worker for those that call."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import psycopg
import pytest

from easel.bus import Bus
from easel.embedded import Servers, Stack
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from gateway.record import schema
from gateway.record.attempts import Attempts
from gateway.record.database import Database
from gateway.record.generations import Generations
from gateway.record.models import Models
from gateway.record.queue import Queue
from tests.integration.scripted_worker import ScriptedWorker

LEASE_SECONDS = 1.5
MAX_BACKLOG = 5
MAX_LOST_ATTEMPTS = 2

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
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def attempts(database: Database) -> Attempts:
    return Attempts(database)


@pytest.fixture
def models(database: Database) -> Models:
    return Models(database)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    environment = {
        "EASEL_LEASE_SECONDS": str(LEASE_SECONDS),
        "EASEL_SWEEP_SECONDS": "0.2",
        "EASEL_RETRY_BACKOFF_SECONDS": "0.1",
        "EASEL_MAX_BACKLOG": str(MAX_BACKLOG),
        "EASEL_MAX_LOST_ATTEMPTS": str(MAX_LOST_ATTEMPTS),
        "EASEL_LOG_LEVEL": "DEBUG",
    }
    folder = tmp_path_factory.mktemp("gateway")
    async with Stack(folder, gateways=2, workers=0, environment=environment) as stack:
        yield stack


@pytest.fixture(scope="module")
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    """The connection of somebody who may do everything."""
    bus = Bus()
    await bus.connect(stack.servers.nats.url("operator"), name="test")
    yield bus
    await bus.close()


@pytest.fixture(scope="module")
async def worker_bus(stack: Stack) -> AsyncIterator[Bus]:
    """The connection of workers, who may do what they need to."""
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def worker(worker_bus: Bus) -> AsyncIterator[ScriptedWorker]:
    """A worker with a model of its own, so that tests do not meet in a queue."""
    worker = ScriptedWorker(worker_bus, model_name=f"m{uuid.uuid4().hex[:8]}")
    await worker.renew()
    yield worker
    await worker.release(leaving=True)


@asynccontextmanager
async def _stubs(target: str) -> AsyncIterator[GenerationServiceStub]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield GenerationServiceStub(channel)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[GenerationServiceStub]:
    async with _stubs(stack.gateways[0].target) as stub:
        yield stub


@pytest.fixture
async def replica(stack: Stack) -> AsyncIterator[GenerationServiceStub]:
    """The same service, at the other gateway."""
    async with _stubs(stack.gateways[1].target) as stub:
        yield stub

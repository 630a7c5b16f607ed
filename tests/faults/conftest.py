"""Whole stacks, of real processes and servers, whose workers draw what a script says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from easel.client import Client
from easel.embedded import Stack
from tests import scripted
from tests.faults.clients import Clients, Endless

#: Short, so that what is lost is noticed soon; as long as it takes until a claim without an answer is asked for again.
LEASE_SECONDS = 3.0
#: Every lease in hand has run out by then, and so has another one, which gateways wait for where they could not judge.
LONGER_THAN_A_LEASE = 2 * LEASE_SECONDS + 1

SETTINGS = {
    "EASEL_LEASE_SECONDS": str(LEASE_SECONDS),
    "EASEL_RENEW_SECONDS": "0.3",
    "EASEL_RETRY_BACKOFF_SECONDS": "0.1",
    "EASEL_SWEEP_SECONDS": "0.2",
    "EASEL_TOPOLOGY_SECONDS": "1",
    "EASEL_LOG_LEVEL": "DEBUG",
    **scripted.ENVIRONMENT,
}


@pytest.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two gateways and two workers; a test that breaks a part of it mends it again."""
    folder = tmp_path_factory.mktemp("faults")
    async with Stack(
        folder, gateways=2, workers=2, model="scripted", worker_module="tests.scripted", environment=SETTINGS
    ) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.target) as client:
        yield client


@pytest.fixture
async def clients(stack: Stack, tmp_path: Path) -> AsyncIterator[Clients]:
    """Clients of both gateways, who watch what they asked for and can tell whether they got it."""
    async with Clients(stack, tmp_path) as clients:
        yield clients


@pytest.fixture
def endless(tmp_path: Path) -> Endless:
    return Endless(tmp_path)

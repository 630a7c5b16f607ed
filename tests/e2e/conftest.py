"""The whole stack with the real worker and a small model."""

from collections.abc import AsyncIterator

import pytest

from easel.client import Client
from easel.embedded import Stack

#: Short, so that a lost worker is noticed soon; long enough for a busy machine.
LEASE_SECONDS = 3.0


@pytest.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One gateway and one worker; a test that breaks a part of it mends it again."""
    environment = {
        "EASEL_THREADS": "1",  # more gain a single picture nothing, and tests share the cores
        "EASEL_LEASE_SECONDS": str(LEASE_SECONDS),
        "EASEL_RENEW_SECONDS": "0.5",
        "EASEL_RETRY_BACKOFF_SECONDS": "0.1",
        "EASEL_SWEEP_SECONDS": "0.2",
    }
    async with Stack(tmp_path_factory.mktemp("stack"), environment=environment) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.target) as client:
        yield client

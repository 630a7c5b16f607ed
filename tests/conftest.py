"""What tests of every kind share."""

import signal
from collections.abc import AsyncIterator

import pytest

from easel.embedded import Servers

# Where the tests run in the background of a shell, Ctrl-C is ignored, and every process they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Run one PostgreSQL, one NATS and one S3 for all tests that do not break them."""
    async with Servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers

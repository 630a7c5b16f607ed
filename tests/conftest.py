"""What tests of every kind share."""

import os
import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from easel.embedded import Servers

# In the background of a shell Ctrl-C is ignored, under nohup the hangup, and all that they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Services that tests start by themselves must not meet, nor anybody's, at the usual ports of the metrics.
os.environ["EASEL_METRICS_LISTEN"] = "127.0.0.1:0"

# The same examples each time, however slow the machine is; a find of others belongs into a test of its own.
settings.load_profile("ci")


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Run one PostgreSQL, one NATS and one S3 for all tests that do not break them."""
    async with Servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers

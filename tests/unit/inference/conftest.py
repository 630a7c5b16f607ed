"""What the tests of the worker share."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from easel.bus import Bus
from easel.embedded.folder import DataFolder
from easel.embedded.nats import Nats, User
from easel.embedded.ports import PortBlock
from easel.embedded.s3 import S3
from inference import models
from inference.engine import loops
from inference.engine.adapter import Adapter, StepAdapter
from inference.engine.cost_model import CostModel
from inference.engine.loops import loop_for
from inference.engine.threaded_engine import ThreadedEngine
from inference.metrics import Metrics
from inference.settings import WorkerSettings
from tests.unit.inference.scripted_gateway import ScriptedGateway

MODEL = "scripted"
#: Other tests share the cores.
TORCH_THREADS = 1
MOST_ROWS = 16


def load(model: Path | str, **settings: Any) -> Adapter:
    """Load a model as a worker with such settings does."""
    given = WorkerSettings(**{"model": str(model), "device": "cpu", **settings})
    return models.load(str(model), given, threads=TORCH_THREADS)


@pytest.fixture(scope="session")
def postcard_folder() -> Path:
    """Where the bundled model lies."""
    return models.BUNDLED["postcard"]


@pytest.fixture(scope="session")
def postcard_adapter(postcard_folder: Path) -> StepAdapter:
    """Load the bundled model as the worker does."""
    adapter: Any = load(postcard_folder)
    adapter.warm_up()
    return cast(StepAdapter, adapter)


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where a test reads what was measured."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, model=MODEL)


@pytest.fixture(scope="session")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nats]:
    """Run a NATS of our own, which tests may restart and wipe."""
    with _place(tmp_path_factory.mktemp("nats")) as (folder, ports):
        server = Nats(folder=folder, port=ports.take())
        await server.start()
        yield server
        await server.stop()


@pytest.fixture(scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3]:
    """Run an S3 server of our own, which tests may restart."""
    with _place(tmp_path_factory.mktemp("s3")) as (folder, ports):
        server = S3(folder=folder, ports=ports)
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def connect(nats: Nats) -> AsyncIterator[Callable[..., Awaitable[Bus]]]:
    """Open connections to NATS, as a worker or as who may do all that gateways and tests do."""
    async with AsyncExitStack() as open_buses:

        async def connect(user: User = "worker") -> Bus:
            bus = Bus()
            await bus.connect(nats.url(user), name="test")
            open_buses.push_async_callback(bus.close)
            return bus

        yield connect


@pytest.fixture
async def bus(connect: Callable[..., Awaitable[Bus]]) -> Bus:
    """The worker's connection."""
    return await connect()


@pytest.fixture
async def gateway(connect: Callable[..., Awaitable[Bus]]) -> ScriptedGateway:
    """A gateway that grants what is queued, on streams without a past."""
    gateway = ScriptedGateway(await connect("operator"), model=MODEL)
    await gateway.open()
    return gateway


class AllRowsPay(CostModel):
    """Knows without measuring what batches pay: how long a step takes is up to the machine."""

    def _find_cap(self, curve: Any) -> int:
        return min(self._most_rows, self._memory_allows(curve))


@pytest.fixture
def all_rows_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have engines draw as many rows at once as they may."""
    monkeypatch.setattr(loops, "CostModel", AllRowsPay)


@pytest.fixture
async def start_engine(all_rows_pay: None) -> AsyncIterator[Callable[[Adapter], Awaitable[ThreadedEngine]]]:
    """Start engines, and stop them after the test."""
    async with AsyncExitStack() as running:

        async def start(adapter: Adapter) -> ThreadedEngine:
            engine = ThreadedEngine(functools.partial(loop_for, adapter, most_rows=MOST_ROWS))
            await engine.start()
            running.push_async_callback(engine.stop)
            return engine

        yield start


@contextmanager
def _place(path: Path) -> Iterator[tuple[DataFolder, PortBlock]]:
    folder, ports = DataFolder(path), PortBlock.claim()
    folder.hold()
    try:
        yield folder, ports
    finally:
        ports.release()
        folder.release()

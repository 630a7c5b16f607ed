"""Further gateways and workers beside those of a stack, with settings of their own."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import httpx2

from easel.embedded import Stack
from easel.embedded.ports import HOST
from easel.embedded.services import Gateway, Worker, live_workers
from tests.scraping import scrape


@asynccontextmanager
async def worker_beside(stack: Stack, *, model: str, name: str = "", **settings: str) -> AsyncIterator[Worker]:
    """Run one more scripted worker, which alone serves a model of its own, so that others do not take its work.

    Args:
        stack: The stack.
        model: The name of its model.
        name: Its own name, where it is not the only one of its model.
        settings: Environment variables that go over those of the stack's workers, `EASEL_` included.
    """

    async def serves() -> bool:
        # It may not be the only one that is counted.
        with suppress(httpx2.HTTPError):
            connected = (await scrape(worker.metrics_url)).value("easel_bus_connected")
            return connected == 1 and (await live_workers(stack.target)).get(model, 0) > 0
        return False

    with _addresses(stack, 1) as (metrics,):
        worker = Worker(
            name or f"worker-{model}",
            module="tests.scripted",
            metrics=metrics,
            folder=stack.servers.folder,
            environment={
                **stack._environment("worker"),
                "EASEL_MODEL": "scripted",
                "EASEL_MODEL_NAME": model,
                **settings,
            },
            is_counted=serves,
        )
        try:
            await worker.start()
            yield worker
        finally:
            await worker.stop()


@asynccontextmanager
async def gateway_beside(stack: Stack, *, name: str, **settings: str) -> AsyncIterator[Gateway]:
    """Run one more gateway on the stack's servers.

    Args:
        stack: The stack.
        name: Told apart from others by it, in the logs' folder too.
        settings: Environment variables that go over those of the stack's gateways, `EASEL_` included.
    """
    with _addresses(stack, 2) as (target, metrics):
        gateway = Gateway(
            name,
            target=target,
            metrics=metrics,
            folder=stack.servers.folder,
            environment={**stack._environment("gateway"), **settings},
        )
        try:
            await gateway.start()
            yield gateway
        finally:
            await gateway.stop()


@contextmanager
def _addresses(stack: Stack, count: int) -> Iterator[Sequence[str]]:
    """Lend ports of the stack's own, which has not many."""
    ports = [stack.servers.take_port() for _ in range(count)]
    try:
        yield [f"{HOST}:{port}" for port in ports]
    finally:
        for port in ports:
            stack.servers.give_back_port(port)

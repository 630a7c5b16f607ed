"""Further gateways and workers beside those of a stack, with settings of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from easel.embedded import Stack
from easel.embedded.services import Gateway, Worker, live_workers


@asynccontextmanager
async def worker_beside(stack: Stack, *, model: str, **settings: str) -> AsyncIterator[Worker]:
    """Run one more scripted worker, which alone serves a model of its own, so that others do not take its work.

    Args:
        stack: The stack.
        model: The name of its model.
        settings: Environment variables that go over those of the stack's workers, `EASEL_` included.
    """

    async def is_counted() -> bool:
        return (await live_workers(stack.target)).get(model, 0) > 0

    worker = Worker(
        f"worker-{model}",
        module="tests.scripted",
        metrics=stack._take_address(),
        folder=stack.servers.folder,
        environment={
            **stack._environment("worker"),
            "EASEL_MODEL": "scripted",
            "EASEL_MODEL_NAME": model,
            **settings,
        },
        is_counted=is_counted,
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
    gateway = Gateway(
        name,
        target=stack._take_address(),
        metrics=stack._take_address(),
        folder=stack.servers.folder,
        environment={**stack._environment("gateway"), **settings},
    )
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()

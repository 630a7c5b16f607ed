"""The gateway and the worker as child processes."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easel.embedded.folder import DataFolder
from easel.embedded.process import READY, Process
from easel.v1 import model_service_pb2, model_service_pb2_grpc

ANSWER_TIMEOUT_SECONDS = 2.0


class Service(Process):
    """One of our own processes; it crashes with its parent, since all it does can be crashed safely."""

    death_signal = signal.SIGKILL

    def __init__(
        self, name: str, *, module: str, metrics: str, folder: DataFolder, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, folder=folder)
        self._module = module
        # Its log is the one of its name in our folder, and not one that it would share with the others.
        self._environment = {**environment, "EASEL_METRICS_LISTEN": metrics, "EASEL_LOG_FILE": ""}
        #: Where it shows its metrics.
        self.metrics = metrics
        #: The same, for who reads them.
        self.metrics_url = f"http://{metrics}/metrics"

    def argv(self) -> Sequence[str]:
        """Run the module with this Python."""
        return module_argv(self._module)

    def environment(self) -> Mapping[str, str]:
        """Pass our own environment on, with the settings of this stack over it."""
        return {**os.environ, **self._environment}


class Gateway(Service):
    """A gateway on a port of its own."""

    def __init__(
        self, name: str, *, target: str, metrics: str, folder: DataFolder, environment: Mapping[str, str]
    ) -> None:
        environment = {**environment, "EASEL_LISTEN": target}
        super().__init__(name, module="gateway", metrics=metrics, folder=folder, environment=environment)
        self.target = target

    @property
    def place(self) -> str:
        """Say where clients find it."""
        return self.target

    async def is_ready(self) -> bool:
        """Ask its health service."""
        request = health_pb2.HealthCheckRequest()
        try:
            async with grpc.aio.insecure_channel(self.target) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # missing in its stubs
                answer = await check(request, timeout=ANSWER_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Worker(Service):
    """A worker, which is ready once a gateway counts it among the live ones."""

    # It may have to fetch a model first.
    ready_timeout_seconds = 600.0

    def __init__(
        self,
        name: str,
        *,
        module: str,
        metrics: str,
        folder: DataFolder,
        environment: Mapping[str, str],
        is_counted: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(name, module=module, metrics=metrics, folder=folder, environment=environment)
        self._is_counted = is_counted

    @property
    def place(self) -> str:
        """Say which model it serves."""
        return self.environment()["EASEL_MODEL"]

    async def is_ready(self) -> bool:
        """Ask whether the gateway counts it."""
        return await self._is_counted()

    async def stop(self) -> None:
        """Ask it to end; while it still loads its model it holds nothing to hand back, and is killed."""
        if self.activity != READY:
            self.kill()
        await super().stop()


async def live_workers(target: str) -> Mapping[str, int]:
    """Ask a gateway for its models and how many workers serve each; empty when it does not answer."""
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            answer = await stub.ListModels(model_service_pb2.ListModelsRequest(), timeout=ANSWER_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError:
        return {}
    return {model.name: model.live_workers for model in answer.models}


def module_argv(module: str, *arguments: str) -> list[str]:
    """Run a module with this Python, and never one of its name that lies in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]

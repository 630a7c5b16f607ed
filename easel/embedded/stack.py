"""Everything that draws a picture on one machine: the servers, gateways and workers."""

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from easel.embedded.failure import StackFailed
from easel.embedded.nats import User
from easel.embedded.ports import HOST, is_free
from easel.embedded.process import Process, run_to_end
from easel.embedded.prometheus import Prometheus
from easel.embedded.servers import Servers
from easel.embedded.services import Gateway, Worker, live_workers, module_argv
from easel.embedded.together import together
from easel.environment import lookup

#: What workers draw with when nothing is named: it comes with them.
DEFAULT_MODEL = "postcard"

Result = TypeVar("Result")


class Stack:
    """Servers, gateways and workers on one data folder; gateways and workers exist from `start` on.

    Use it as `async with Stack(folder) as stack:`, or call `start` and `stop`.
    """

    gateways: Sequence[Gateway]
    workers: Sequence[Worker]

    def __init__(
        self,
        folder: Path | str,
        *,
        gateways: int = 1,
        workers: int = 1,
        gateway_port: int = 0,
        model: str | None = None,
        worker_module: str = "inference",
        environment: Mapping[str, str] | None = None,
        observed_every_seconds: float | None = None,
    ) -> None:
        """Describe a stack, and touch nothing yet.

        Args:
            folder: where everything is kept; made when it is not there.
            gateways: how many gateways.
            workers: how many workers.
            gateway_port: the first gateway's port; 0 is a free one. Further gateways always take free ones.
            model: a diffusers folder or hub id for the workers; else `EASEL_MODEL` from outside; else the bundled one.
            worker_module: what runs as a worker; a test may have one without a device.
            environment: settings for gateways and workers that go over those of this process.
            observed_every_seconds: how often Prometheus, which has to be installed, reads the metrics; never when None.
        """
        self.servers = Servers(folder)
        self.gateways, self.workers = (), ()
        self.prometheus: Prometheus | None = None
        self._observed_every_seconds = observed_every_seconds
        self._gateway_count, self._worker_count = gateways, workers
        self._gateway_port = gateway_port
        self._worker_module = worker_module
        self._extra = dict(environment or {})
        #: What the workers draw with.
        self.model = model or self._extra.get("EASEL_MODEL") or lookup("EASEL_MODEL") or DEFAULT_MODEL

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def target(self) -> str:
        """Where the first gateway is, as gRPC wants it: `127.0.0.1:50051`."""
        return self.gateways[0].target

    @property
    def processes(self) -> Sequence[Process]:
        """Every process, in the order in which they stop."""
        observers = [] if self.prometheus is None else [self.prometheus]
        return [*self.workers, *self.gateways, *observers, *self.servers.processes]

    @property
    def logs(self) -> Path:
        """The folder of the logs, one for each process."""
        return self.servers.folder.logs

    async def start(self) -> None:
        """Start everything and wait until a picture could be drawn; if a part fails, or on a cancel, stop it all.

        Raises:
            StackFailed: what failed, and which log to read.
        """
        self.servers.prepare()
        try:
            self._check_gateway_port()
            self.gateways = [self._make_gateway(index) for index in range(self._gateway_count)]
            self.workers = [self._make_worker(index) for index in range(self._worker_count)]
            self.prometheus = self._make_prometheus()
            # PostgreSQL leads to the gateways, and workers load their model meanwhile.
            await together(
                self.servers.nats.start(),
                self.servers.s3.start(),
                self._start_gateways(),
                self._start_workers(),
                *([] if self.prometheus is None else [self.prometheus.start()]),
            )
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the workers, then the gateways, then the servers; harmless when nothing runs.

        In this order everybody can still hand back what they hold.
        """
        try:
            await together(*(worker.stop() for worker in self.workers))
            await together(*(gateway.stop() for gateway in self.gateways))
            if self.prometheus is not None:
                await self.prometheus.stop()
            await self.servers.stop()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill everything at once, and let go of folder and ports."""
        for process in self.processes:
            process.kill()
        self.servers.release()

    async def while_all_run(self, task: Coroutine[Any, Any, Result]) -> Result:
        """Await something for as long as every process runs.

        Raises:
            StackFailed: a process ended before; which one, and its log.
        """
        watched = asyncio.create_task(task)
        guards = [asyncio.create_task(process.wait()) for process in self.processes]
        try:
            await asyncio.wait([watched, *guards], return_when=asyncio.FIRST_COMPLETED)
            ended = next((process for process in self.processes if not process.is_running), None)
            if ended is not None and not watched.done():
                raise ended.failure(f"ended with status {ended.status}")
            return await watched
        finally:
            for remaining in (watched, *guards):
                remaining.cancel()
            await asyncio.wait([watched, *guards])

    async def _start_gateways(self) -> None:
        await self.servers.postgres.start()
        if self.gateways:
            await self._migrate()
        await together(*(gateway.start() for gateway in self.gateways))

    async def _migrate(self) -> None:
        for gateway in self.gateways:
            gateway.activity = "migrating"
        environment = {**os.environ, **self._environment("gateway")}
        argv = module_argv("gateway", "migrate")
        await run_to_end("migrate", argv=argv, environment=environment, folder=self.servers.folder)

    async def _start_workers(self) -> None:
        for worker in self.workers:
            worker.launch()
        # They are ready when a gateway says so, and thus after everything else.
        await together(*(worker.wait_ready() for worker in self.workers))

    def _check_gateway_port(self) -> None:
        if self._gateway_port and not is_free(self._gateway_port):
            taken = f"port {self._gateway_port} is taken"
            raise StackFailed(f"{taken}: --port names another one, or 0 for any that is free")

    def _make_gateway(self, index: int) -> Gateway:
        port = self._gateway_port if index == 0 else 0
        return Gateway(
            _numbered("gateway", index),
            target=f"{HOST}:{port}" if port else self._take_address(),
            metrics=self._take_address(),
            folder=self.servers.folder,
            environment=self._environment("gateway"),
        )

    def _make_worker(self, index: int) -> Worker:
        # Torch processes that share cores with more threads than there are cores slow one another tenfold.
        threads = max(1, (os.cpu_count() or 1) // self._worker_count)
        return Worker(
            _numbered("worker", index),
            module=self._worker_module,
            metrics=self._take_address(),
            folder=self.servers.folder,
            environment={
                "EASEL_THREADS": lookup("EASEL_THREADS") or str(threads),
                **self._environment("worker"),
                "EASEL_MODEL": self.model,
            },
            is_counted=self._all_workers_are_counted,
        )

    def _make_prometheus(self) -> Prometheus | None:
        if self._observed_every_seconds is None:
            return None
        return Prometheus(
            folder=self.servers.folder,
            port=self.servers.take_port(),
            jobs={
                "gateway": [gateway.metrics for gateway in self.gateways],
                "worker": [worker.metrics for worker in self.workers],
            },
            interval_seconds=self._observed_every_seconds,
        )

    def _take_address(self) -> str:
        return f"{HOST}:{self.servers.take_port()}"

    def _environment(self, user: User) -> Mapping[str, str]:
        return {**self.servers.environment(user=user), **self._extra}

    async def _all_workers_are_counted(self) -> bool:
        """Whether a gateway counts as many workers as run; it may count one that just died for a while."""
        gateway = next((gateway for gateway in self.gateways if gateway.is_running), None)
        if gateway is None:
            return False
        expected = sum(worker.is_running for worker in self.workers)
        return sum((await live_workers(gateway.target)).values()) >= expected


def _numbered(name: str, index: int) -> str:
    return name if index == 0 else f"{name}-{index + 1}"

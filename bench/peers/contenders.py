"""What is compared: each a whole service with one worker, the same model, as many threads, and a bucket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import httpx2
import psutil
from pydantic import SecretStr

from bench.peers.environments import python_of
from bench.peers.processes import APPS, App, Redis
from easel import objects
from easel.client import Client, GenerationSpec, GenerationState
from easel.embedded import Servers, Stack
from easel.embedded.ports import HOST
from easel.embedded.process import Process
from easel.settings import Settings
from inference import models
from inference.engine.engine import DrawRequest

POLL_SECONDS = 0.1
MODEL = "postcard"


class Front(Protocol):
    """How a client of a service gets a picture."""

    async def draw(self, job_id: str, request: DrawRequest, on_progress: Callable[[], None]) -> None:
        """Ask for a picture and wait until it is stored, hearing of steps if there is a way to.

        Raises:
            Exception: there will be none, as far as the client knows.
        """
        ...


class Worker(Protocol):
    """What draws, of a service."""

    def kill(self) -> None:
        """End it with SIGKILL."""
        ...

    async def start(self) -> None:
        """Have it run again."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One of them, running."""

    front: Front
    worker: Worker
    #: Those that belong to the service, the bucket's apart.
    processes: Sequence[Process]

    def memory_mib(self) -> float:
        """Say how much memory its processes have to themselves, and their share of what they share."""
        found = [
            each
            for process in self.processes
            for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ]
        return sum(each.memory_full_info().pss for each in found) / 2**20


Enter = Callable[[int], AbstractAsyncContextManager[Contender]]


class EaselFront:
    """Easel's own client, and its stream."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def draw(self, job_id: str, request: DrawRequest, on_progress: Callable[[], None]) -> None:
        spec = GenerationSpec(
            prompt=request.prompt,
            width=request.width,
            height=request.height,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            scheduler=request.scheduler,
            seed=request.seed,
        )
        async for event in self._client.generate(spec, request_id=job_id):
            if event.progress and event.progress.step:
                on_progress()
        if event.generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
            raise RuntimeError(f"no picture: {event.generation.failure.message}")


class LitServeFront:
    """One call, which lasts until the picture is there."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def draw(self, job_id: str, request: DrawRequest, on_progress: Callable[[], None]) -> None:
        (await self._http.post("/predict", json=_job(job_id, request))).raise_for_status()


class PollingFront:
    """A call that is answered at once, and then questions."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def draw(self, job_id: str, request: DrawRequest, on_progress: Callable[[], None]) -> None:
        (await self._http.post("/pictures", json=_job(job_id, request))).raise_for_status()
        state: Mapping[str, str] = {}
        while state.get("state") != "SUCCEEDED":
            await asyncio.sleep(POLL_SECONDS)
            state = (await self._http.get(f"/pictures/{job_id}")).json()
            if state.get("step"):
                on_progress()


class LitServeWorker:
    """The process that LitServe draws in, and that it starts again by itself."""

    def __init__(self, service: Process) -> None:
        self._service = service

    def kill(self) -> None:
        """End the one that holds the model, which is the greatest of the service's processes."""
        children = psutil.Process(self._service.pid).children(recursive=True)
        max(children, key=lambda child: child.memory_info().rss).kill()

    async def start(self) -> None:
        """Leave it to LitServe."""


@asynccontextmanager
async def easel(threads: int) -> AsyncIterator[Contender]:
    """Easel: one gateway, one worker, NATS, PostgreSQL, S3."""
    environment = {"EASEL_THREADS": str(threads), "EASEL_LOG_LEVEL": "WARNING"}
    with TemporaryDirectory(prefix="easel-bench-") as folder:
        async with (
            Stack(folder, workers=1, model=MODEL, environment=environment) as stack,
            Client(stack.target, patience_seconds=600) as client,
        ):
            servers = stack.servers
            yield Contender(
                front=EaselFront(client),
                worker=stack.workers[0],
                processes=[*stack.gateways, *stack.workers, servers.postgres, servers.nats],
            )


@asynccontextmanager
async def litserve(threads: int) -> AsyncIterator[Contender]:
    """LitServe, with its dynamic batching on."""
    async with _servers(threads) as (servers, environment, open_http):
        url = f"http://{HOST}:{(port := servers.take_port())}"
        app = App(
            "litserve",
            str(APPS / "litserve_app.py"),
            str(port),
            python=python_of("litserve"),
            folder=servers.folder,
            environment=environment,
            health_url=f"{url}/health",
        )
        async with _running(app):
            yield Contender(front=LitServeFront(await open_http(url)), worker=LitServeWorker(app), processes=[app])


@asynccontextmanager
async def dramatiq(threads: int) -> AsyncIterator[Contender]:
    """FastAPI, Dramatiq, Redis, and polling."""
    async with _servers(threads) as (servers, environment, open_http):
        broker = Redis(folder=servers.folder, port=servers.take_port(), durable=True)
        url = f"http://{HOST}:{(port := servers.take_port())}"
        given: dict[str, Any] = {
            "python": python_of("dramatiq"),
            "folder": servers.folder,
            "environment": {**environment, "PEER_REDIS_URL": broker.url},
        }
        where = ("--host", HOST, "--port", str(port), "--log-level", "warning")
        api = App("api", "-m", "uvicorn", "dramatiq_api:app", *where, health_url=f"{url}/openapi.json", **given)
        worker = App("worker", "-m", "dramatiq", "dramatiq_tasks", "--processes", "1", "--threads", "1", **given)
        async with _running(broker, api, worker):
            front = PollingFront(await open_http(url))
            yield Contender(front=front, worker=worker, processes=[broker, api, worker])


CONTENDERS: Mapping[str, Enter] = {"Easel": easel, "LitServe": litserve, "FastAPI + Dramatiq + Redis": dramatiq}


@asynccontextmanager
async def _servers(threads: int) -> AsyncIterator[tuple[Servers, Mapping[str, str], Any]]:
    """Run a bucket, and lend what the services need to find it."""
    async with AsyncExitStack() as stack:
        servers = Servers(Path(stack.enter_context(TemporaryDirectory(prefix="easel-bench-"))))
        servers.prepare()
        stack.callback(servers.kill)
        await servers.s3.start()
        environment = {
            **servers.environment(user="worker"),
            "PEER_MODEL": models.locate(MODEL),
            "PEER_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
        }
        _make_bucket(environment)

        async def open_http(url: str) -> httpx2.AsyncClient:
            limits = httpx2.Limits(max_connections=None)
            return await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=None, limits=limits))

        yield servers, environment, open_http


@asynccontextmanager
async def _running(*processes: Process) -> AsyncIterator[None]:
    try:
        for process in processes:
            await process.start()
        yield
    finally:
        for process in reversed(processes):
            process.kill()


def _make_bucket(environment: Mapping[str, str]) -> None:
    settings = Settings(
        s3_access_key=environment["EASEL_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(environment["EASEL_S3_SECRET_KEY"]),
    )
    client = objects.connect(settings, endpoint=environment["EASEL_S3_ENDPOINT"])
    if not client.bucket_exists(environment["EASEL_S3_BUCKET"]):
        client.make_bucket(environment["EASEL_S3_BUCKET"])


def _job(job_id: str, request: DrawRequest) -> dict[str, Any]:
    return {
        "id": job_id,
        "prompt": request.prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "scheduler": request.scheduler,
        "seed": request.seed,
    }

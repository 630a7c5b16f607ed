"""What is compared: each with one front, two workers that draw one picture at a time, a broker, and a bucket."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from minio import Minio
from pydantic import SecretStr

from bench.peers.processes import Redis
from easel import objects
from easel.client import Client, EaselError
from easel.embedded import Servers, Stack
from easel.embedded.process import Process
from easel.settings import Settings
from easel.v1.generation_pb2 import GenerationSpec, GenerationState
from tests.chaos import scale
from tests.chaos.compare.clients import STEP_SECONDS, STEPS, Front
from tests.chaos.compare.peer.parts import ROOT, Api, DramatiqWorker

CALL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One of them, running."""

    front: Front
    broker: Process
    workers: Sequence[Process]
    bucket: "Bucket"


Enter = Callable[[], AbstractAsyncContextManager[Contender]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """Where its pictures are."""

    minio: Minio
    name: str
    #: Above the pictures of all jobs; the next part of a key is the job's id.
    prefix: str

    def count_drawings(self) -> dict[str, int]:
        """Count how often each job's picture was drawn and stored, as far as that left a trace in the bucket."""
        drawings: dict[str, int] = {}
        for found in self.minio.list_objects(self.name, prefix=self.prefix, recursive=True):
            job_id = str(found.object_name).removeprefix(self.prefix).split("/")[0]
            drawings[job_id] = drawings.get(job_id, 0) + 1
        return drawings


class EaselFront:
    """Easel's gateway, asked as its documentation says."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, request_id: str) -> str | None:
        spec = GenerationSpec(prompt=f"step={STEP_SECONDS}", steps=STEPS)
        try:
            return (await self._client.create(spec, request_id=request_id)).id
        except EaselError:
            return None

    async def is_done(self, job_id: str) -> bool | None:
        try:
            generation = await self._client.get(job_id)
        except EaselError:
            return None
        return generation.state == GenerationState.GENERATION_STATE_SUCCEEDED


class PeerFront:
    """The peer's service."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def create(self, request_id: str) -> str | None:
        wanted = {"request_id": request_id, "steps": STEPS, "step_seconds": STEP_SECONDS}
        answer = await self._call("POST", "/generations", wanted)
        return None if answer is None else answer["id"]

    async def is_done(self, job_id: str) -> bool | None:
        answer = await self._call("GET", f"/generations/{job_id}")
        return None if answer is None else answer.get("state") == "SUCCEEDED"

    async def _call(self, method: str, path: str, json: object = None) -> dict[str, str] | None:
        try:
            answer = await self._http.request(method, path, json=json)
        except httpx2.HTTPError:
            return None
        if answer.is_error:
            return None
        found: dict[str, str] = answer.json()
        return found


@asynccontextmanager
async def easel() -> AsyncIterator[Contender]:
    """Easel: one gateway, two workers, NATS, PostgreSQL, S3."""
    environment = {**scale.environment(), "EASEL_SLOTS": "1", "EASEL_LOG_LEVEL": "INFO"}
    with TemporaryDirectory(prefix="easel-compare-") as folder:
        stack = Stack(folder, workers=2, model="scripted", worker_module="tests.scripted", environment=environment)
        async with (
            stack,
            Client(stack.target, patience_seconds=CALL_SECONDS, call_seconds=CALL_SECONDS) as client,
        ):
            yield Contender(
                front=EaselFront(client),
                broker=stack.servers.nats,
                workers=stack.workers,
                bucket=_bucket(stack.servers, prefix="results/"),
            )


def peer(*, durable: bool) -> Enter:
    """FastAPI, Dramatiq and Redis, whose broker keeps a log of its changes or is left as it comes."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Contender]:
        async with AsyncExitStack() as stack:
            servers = Servers(Path(stack.enter_context(TemporaryDirectory(prefix="easel-compare-"))))
            servers.prepare()
            stack.callback(servers.kill)
            broker = Redis(folder=servers.folder, port=servers.take_port(), durable=durable)
            environment = {
                **os.environ,
                **servers.environment(user="worker"),
                "PEER_REDIS_URL": broker.url,
                "PYTHONPATH": str(ROOT),
            }
            api = Api(folder=servers.folder, port=servers.take_port(), environment=environment)
            workers = [
                DramatiqWorker(name, folder=servers.folder, environment=environment) for name in ("worker", "worker-2")
            ]
            for process in (servers.s3, broker, api, *workers):
                stack.callback(process.kill)
                await process.start()
            http = await stack.enter_async_context(httpx2.AsyncClient(base_url=api.url, timeout=CALL_SECONDS))
            yield Contender(
                front=PeerFront(http), broker=broker, workers=workers, bucket=_bucket(servers, prefix="peer/")
            )

    return run


CONTENDERS: Mapping[str, Enter] = {
    "Easel": easel,
    "FastAPI + Dramatiq + Redis with its log": peer(durable=True),
    "FastAPI + Dramatiq + Redis as it comes": peer(durable=False),
}


def _bucket(servers: Servers, *, prefix: str) -> Bucket:
    environment = servers.environment(user="worker")
    settings = Settings(
        s3_endpoint=environment["EASEL_S3_ENDPOINT"],
        s3_bucket=environment["EASEL_S3_BUCKET"],
        s3_access_key=environment["EASEL_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(environment["EASEL_S3_SECRET_KEY"]),
    )
    return Bucket(
        minio=objects.connect(settings, endpoint=settings.s3_endpoint), name=settings.s3_bucket, prefix=prefix
    )

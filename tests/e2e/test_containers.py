"""What the images would run, run as plain processes: entrypoints, environment, signals, permissions, healthchecks.

Their environment is that of the image and of compose.yaml, with the addresses of this machine; tests/containers/room.py
tells how little else they have.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import nats
import psycopg
import pytest
import urllib3
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easel.bus import address_of
from easel.client import Client, GenerationSpec
from easel.embedded import Servers
from easel.embedded.folder import DataFolder
from easel.embedded.nats import Nats, User
from easel.embedded.ports import PortBlock
from easel.embedded.s3 import S3
from easel.embedded.wheels import script
from easel.v1.generation_pb2 import GenerationState
from tests.containers import compose
from tests.containers.room import Inhabitant, Room, cage, is_closed

PATIENCE_SECONDS = 60.0
#: Torch is slow to import on a busy machine.
LONG_PATIENCE_SECONDS = 110.0


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    return dict(compose.resolve()["services"])


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Run servers of these tests alone: their gateway must meet no other."""
    async with Servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


Furnish = Callable[..., Room]


@pytest.fixture(scope="module")
def furnish(services: Mapping[str, Any], own: Servers, tmp_path_factory: pytest.TempPathFactory) -> Furnish:
    """Make rooms for services of compose.yaml."""

    def make(service: str, **more: str) -> Room:
        given = dict(services[service]["environment"])
        here = own.environment(user="worker" if service == "worker" else "gateway")
        ports = {name: f"0.0.0.0:{own.take_port()}" for name in given if name.endswith("_LISTEN")}
        environment = {**given, **{name: here[name] for name in given if name in here}, **ports, **more}
        # Nothing is left that only Compose's network would resolve.
        assert not any(re.search(rf"[@/]({'|'.join(services)}):\d+(/|$)", value) for value in environment.values())
        folder = tmp_path_factory.mktemp(service) / "room"
        return Room(services[service]["build"]["dockerfile"], folder, environment=environment)

    return make


@pytest.fixture(scope="module")
def migrated(services: Mapping[str, Any], furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate as the service `migrate` does, and give its log."""
    room = furnish("migrate")
    log = tmp_path_factory.mktemp("logs") / "migrate.log"
    status = room.run(room.entrypoint(*services["migrate"]["command"]), log=log, within_seconds=PATIENCE_SECONDS)
    assert status == 0, log.read_text()
    return log


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Room], Inhabitant]]:
    """Start what a room is for, and kill it at the end."""
    started: list[Inhabitant] = []

    def start(room: Room, *arguments: str) -> Inhabitant:
        log = tmp_path / f"{room.lock}.log"
        started.append(room.start(room.entrypoint(*arguments), log=log))
        return started[-1]

    yield start
    for inhabitant in started:
        inhabitant.kill()


def ask(room: Room) -> int:
    """Run its healthcheck once, beside it: in its container too, it is another process."""
    done = subprocess.run(room.healthcheck, env=room.environment, cwd=room.app, capture_output=True, check=False)
    return done.returncode


async def until_healthy(room: Room, inhabitant: Inhabitant, *, within_seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + within_seconds
    while await asyncio.to_thread(ask, room) != 0:
        assert inhabitant.process.poll() is None, inhabitant.log.read_text()
        assert time.monotonic() < deadline, inhabitant.log.read_text()
        await asyncio.sleep(0.2)


async def until_serving(target: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), grpc.aio.insecure_channel(target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # missing in its stubs
        while True:
            answer = await check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.05)


async def stop(inhabitant: Inhabitant, service: Mapping[str, Any]) -> int:
    """Stop it as Compose does, within its grace, and return its exit status."""
    inhabitant.terminate()
    grace_seconds = float(service["stop_grace_period"].removesuffix("s"))
    return await asyncio.to_thread(inhabitant.process.wait, grace_seconds)


def port_of(room: Room, setting: str) -> str:
    return room.environment[setting].rpartition(":")[2]


def test_a_room_is_closed(furnish: Furnish, tmp_path: Path) -> None:
    room = furnish("gateway")
    if not is_closed(cage(room.user, tuple(map(str, room.writable)))):
        pytest.skip("the kernel lets us make no mount namespace")
    program = """
import os, pathlib, sys, tempfile
with tempfile.TemporaryFile() as file:
    file.write(b"here we may")
for folder in (sys.argv[1], "/tmp", "/var/tmp", "/", os.getcwd()):
    try:
        (pathlib.Path(folder) / "written").write_text("no")
    except OSError as error:
        print(error.strerror)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getpid(), status["NoNewPrivs"].strip())
"""
    (checkout := tmp_path / "checkout").mkdir()
    checkout.chmod(0o777)
    log = tmp_path / "log"
    assert room.run(["python", "-c", program, str(checkout)], log=log, within_seconds=PATIENCE_SECONDS) == 0
    *refusals, identity = log.read_text().splitlines()
    assert refusals == ["Read-only file system"] * 5
    user = room.user if os.geteuid() == 0 else 0
    assert identity == f"{user} 1 1"


def test_a_room_has_what_its_lock_names_and_nothing_else(furnish: Furnish, tmp_path: Path) -> None:
    program = """
import importlib.metadata, importlib.util, json, sys
names = sys.argv[1:]
print(json.dumps({
    "found": [name for name in names if importlib.util.find_spec(name)],
    "versions": [one.name for one in importlib.metadata.distributions()],
}))
"""
    names = ["sqlalchemy", "psycopg", "grpc", "torch", "diffusers", "pytest", "gateway", "inference"]

    def seen_from(service: str) -> dict[str, list[str]]:
        log = tmp_path / service
        assert furnish(service).run(["python", "-c", program, *names], log=log, within_seconds=PATIENCE_SECONDS) == 0
        return dict(json.loads(log.read_text()))

    gateway, worker = seen_from("gateway"), seen_from("worker")
    assert gateway["found"] == ["sqlalchemy", "psycopg", "grpc", "gateway"]
    assert worker["found"] == ["grpc", "torch", "diffusers", "inference"]
    assert "torch" not in gateway["versions"]
    assert "SQLAlchemy" not in worker["versions"]


def test_migrates(own: Servers, migrated: Path) -> None:
    with psycopg.connect(own.postgres.url) as connection:
        assert connection.execute("SELECT to_regclass('generations')").fetchone() != (None,)


def test_a_gateway_without_settings_says_which_and_ends(furnish: Furnish, tmp_path: Path) -> None:
    room = furnish("gateway", EASEL_DATABASE_URL="nonsense")
    assert room.run(room.entrypoint(), log=tmp_path / "log", within_seconds=PATIENCE_SECONDS) == 2
    assert (tmp_path / "log").read_text().startswith("EASEL_DATABASE_URL: ")


async def test_a_gateway_becomes_healthy_stops_in_time_and_writes_nothing(
    services: Mapping[str, Any], furnish: Furnish, migrated: Path, start: Callable[[Room], Inhabitant]
) -> None:
    room = furnish("gateway")
    before = room.files()
    assert ask(room) == 1
    gateway = start(room)
    await until_healthy(room, gateway)
    await until_serving(f"127.0.0.1:{port_of(room, 'EASEL_LISTEN')}")
    assert await stop(gateway, services["gateway"]) == 0, gateway.log.read_text()
    assert ask(room) == 1
    assert room.files() == before
    assert [str(path) for place in room.writable for path in place.rglob("*")] == []


async def test_the_command_line_works_in_the_gateways_image(
    furnish: Furnish, migrated: Path, start: Callable[[Room], Inhabitant], tmp_path: Path
) -> None:
    room = furnish("gateway")
    gateway = start(room)
    await until_healthy(room, gateway)
    target = f"127.0.0.1:{port_of(room, 'EASEL_LISTEN')}"
    await until_serving(target)
    argv = ["python", "-m", "easel", "list", "--target", target]
    assert await asyncio.to_thread(room.run, argv, log=tmp_path / "list", within_seconds=PATIENCE_SECONDS) == 0, (
        tmp_path / "list"
    ).read_text()


@pytest.mark.timeout(300)
async def test_a_worker_draws_for_a_gateway_and_both_stop_in_time(
    services: Mapping[str, Any],
    furnish: Furnish,
    migrated: Path,
    start: Callable[[Room], Inhabitant],
    tmp_path: Path,
) -> None:
    gateway_room, worker_room = furnish("gateway"), furnish("worker")
    before = worker_room.files()
    gateway, worker = start(gateway_room), start(worker_room)
    await until_healthy(gateway_room, gateway)
    await until_healthy(worker_room, worker, within_seconds=LONG_PATIENCE_SECONDS)
    target = f"127.0.0.1:{port_of(gateway_room, 'EASEL_LISTEN')}"
    await until_serving(target)
    async with asyncio.timeout(LONG_PATIENCE_SECONDS), Client(target) as client:
        while not await client.list_models():  # noqa: ASYNC110  # a question to a server
            await asyncio.sleep(0.1)
        async for event in client.generate(GenerationSpec(model="postcard", prompt="a castle", steps=2)):
            generation = event.generation
        assert generation.state == GenerationState.GENERATION_STATE_SUCCEEDED
        await client.download(generation, tmp_path / "castle.png")
    assert (tmp_path / "castle.png").read_bytes().startswith(b"\x89PNG")
    assert await stop(worker, services["worker"]) == 0, worker.log.read_text()
    assert await stop(gateway, services["gateway"]) == 0, gateway.log.read_text()
    assert worker_room.files() == before


class ComposeNats(Nats):
    """NATS with the command, configuration and environment of compose.yaml, on a port of its own."""

    def __init__(self, service: Mapping[str, Any], *, folder: DataFolder, port: int, monitoring_port: int) -> None:
        super().__init__(folder=folder, port=port)
        self._service = service
        self._server_name = "easel"
        self._passwords |= {
            "gateway": compose.SECRETS["NATS_GATEWAY_PASSWORD"],
            "worker": compose.SECRETS["NATS_WORKER_PASSWORD"],
        }
        self.monitoring_port = monitoring_port

    def argv(self) -> list[str]:
        config, data = sorted(self._service["volumes"], key=lambda mount: str(mount["type"]))
        # Its data lie elsewhere, which is all that cannot be said on the command line.
        here = self.folder.path / "configuration"
        shutil.copytree(config["source"], here, dirs_exist_ok=True)
        main = here / "nats.conf"
        main.write_text(main.read_text().replace(f" {data['target']}\n", f" '{self.store}'\n"))
        program, *arguments = (word.replace(config["target"], str(here)) for word in self._service["command"])
        ports = ["--addr", "127.0.0.1", "--port", str(self.port), "--http_port", str(self.monitoring_port)]
        return [str(script(program)), *arguments, *ports]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, **self._service["environment"]}


def answers(url: str, *, port: int) -> bool:
    """Tell whether the URL of a healthcheck is answered with 200, at the port where the server is here."""
    answer = urllib3.request("GET", re.sub(r":\d+/", f":{port}/", url), timeout=2.0, retries=False)
    return answer.status == 200


async def says(server: Nats, user: str, password: str) -> bytes:
    """Tell what it answers to somebody who comes with a password."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    options = json.dumps({"user": user, "pass": password, "verbose": False})
    writer.write(f"CONNECT {options}\r\nPING\r\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_nats_takes_the_passwords_of_both_and_no_other(services: Mapping[str, Any], tmp_path: Path) -> None:
    block = PortBlock.claim()
    (folder := DataFolder(tmp_path)).hold()
    server = ComposeNats(services["nats"], folder=folder, port=block.take(), monitoring_port=block.take())
    try:
        await server.start()
        users: tuple[User, ...] = ("gateway", "worker")
        for user in users:
            client = await nats.connect(**address_of(server.url(user), ca_file=""))
            assert (await client.jetstream().account_info()).streams == 0
            assert client.max_payload == 8 * 1024 * 1024
            await client.close()
            assert await says(server, user, compose.SECRETS[f"NATS_{user.upper()}_PASSWORD"]) == b"PONG\r\n"
            assert b"Authorization Violation" in await says(server, user, "another")
        *_, url = services["nats"]["healthcheck"]["test"]
        assert await asyncio.to_thread(answers, url, port=server.monitoring_port)
    finally:
        await server.stop()
        folder.release()
        block.release()


class ComposeS3(S3):
    """SeaweedFS with the command and environment of compose.yaml, on ports of its own."""

    def __init__(self, service: Mapping[str, Any], *, folder: DataFolder, ports: PortBlock) -> None:
        super().__init__(folder=folder, ports=ports)
        self._service = service
        self.access_key, self.secret_key = compose.SECRETS["S3_ACCESS_KEY"], compose.SECRETS["S3_SECRET_KEY"]
        self._client = self._connect()

    def argv(self) -> list[str]:
        _, *own_ports = (flag for flag in super().argv() if ".port" in flag or flag.endswith("weed"))
        here = [flag.replace("-dir=/data", f"-dir={self.data}") for flag in self._service["command"]]
        return [str(script("weed")), *here, *(flag for flag in own_ports if not flag.endswith("=0"))]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, **self._service["environment"]}


async def test_s3_stores_with_the_keys_of_compose(services: Mapping[str, Any], tmp_path: Path) -> None:
    block = PortBlock.claim()
    (folder := DataFolder(tmp_path)).hold()
    server = ComposeS3(services["s3"], folder=folder, ports=block)
    try:
        # It is ready once it has stored something, with these keys and in this bucket.
        await server.start()
        *_, url = services["s3"]["healthcheck"]["test"]
        assert await asyncio.to_thread(answers, url, port=int(server.endpoint.rpartition(":")[2]))
    finally:
        await server.stop()
        folder.release()
        block.release()

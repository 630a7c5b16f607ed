"""The gateway as a process: how it starts, waits, refuses to start, and stops."""

import asyncio
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easel.embedded import Servers

PATIENCE_SECONDS = 20.0


@pytest.fixture
def environment(servers: Servers, record_url: str) -> dict[str, str]:
    own = {"EASEL_DATABASE_URL": record_url, "EASEL_LISTEN": "127.0.0.1:0"}
    return {**os.environ, **servers.environment(user="gateway"), **own}


@asynccontextmanager
async def gateway(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_with(process: Process, text: str) -> str:
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if text in line:
            return line
    raise AssertionError(f"ended without saying {text!r}")


def files_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def all_of(folder: Path) -> str:
    text = ""
    for file in files_of(folder):
        # It may be renamed or removed in this very moment.
        with suppress(FileNotFoundError):
            text += file.read_text()
    return text


async def output_of(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    async with gateway(environment, *arguments) as process:
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def health_at(port: str) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check  # type: ignore[attr-defined]  # missing in its stubs
        answer = await check(health_pb2.HealthCheckRequest())
    return int(answer.status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_and_stops_on_a_signal(environment: dict[str, str], number: signal.Signals) -> None:
    async with gateway(environment) as process:
        await line_with(process, "listening on port")
        process.send_signal(number)
        assert await process.wait() == 0


async def test_waits_for_the_schema_and_is_not_healthy_before(servers: Servers, environment: dict[str, str]) -> None:
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE unmigrated")
    environment["EASEL_DATABASE_URL"] = f"{servers.postgres.url.rpartition('/')[0]}/unmigrated"
    async with gateway(environment) as process:
        port = (await line_with(process, "listening on port")).split(" port ")[1].split()[0]
        assert "gateway migrate" in await line_with(process, "waiting for the database")
        assert await health_at(port) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await output_of(environment, "migrate")
        while await health_at(port) != health_pb2.HealthCheckResponse.SERVING:  # noqa: ASYNC110  # asked, not told
            await asyncio.sleep(0.05)


async def test_waits_for_a_database_that_does_not_let_it_look(servers: Servers, environment: dict[str, str]) -> None:
    stranger = f"stranger_{uuid.uuid4().hex}"
    with psycopg.connect(environment["EASEL_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD 'x'")
        place = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
    environment["EASEL_DATABASE_URL"] = f"postgresql://{stranger}:x@{place}"
    async with gateway(environment) as process:
        assert "permission denied for table alembic_version" in await line_with(process, "waiting for the database")
        process.terminate()
        assert await process.wait() == 0


async def test_starts_before_nats_and_says_what_it_waits_for(environment: dict[str, str]) -> None:
    environment["EASEL_NATS_URL"] = "nats://127.0.0.1:1"
    async with gateway(environment) as process:
        await line_with(process, "listening on port")
        assert "WARNING" in await line_with(process, "refused")
        process.terminate()
        assert await process.wait() == 0


async def test_wrong_settings_are_all_named_with_one_line_each(environment: dict[str, str]) -> None:
    environment |= {"EASEL_DATABASE_URL": "mysql://x", "EASEL_LEASE_SECONDS": "-1"}
    status, output = await output_of(environment)
    assert status == 2
    assert [line.split(":")[0] for line in output.splitlines()] == ["EASEL_DATABASE_URL", "EASEL_LEASE_SECONDS"]


async def test_addresses_and_intervals_that_cannot_be(environment: dict[str, str]) -> None:
    environment |= {
        "EASEL_LISTEN": "nonsense",
        "EASEL_METRICS_LISTEN": "127.0.0.1:65536",
        "EASEL_S3_ENDPOINT": "nonsense",
        "EASEL_NATS_URL": "nonsense",
    }
    status, output = await output_of(environment)
    assert status == 2
    names = {line.split(":")[0] for line in output.splitlines()}
    assert names == {"EASEL_LISTEN", "EASEL_METRICS_LISTEN", "EASEL_S3_ENDPOINT", "EASEL_NATS_URL"}


async def test_a_sweep_too_slow_for_its_lease(environment: dict[str, str]) -> None:
    environment |= {"EASEL_LEASE_SECONDS": "2", "EASEL_SWEEP_SECONDS": "1"}
    status, output = await output_of(environment)
    assert status == 2
    assert output == "EASEL_SWEEP_SECONDS must be at most a 5th of EASEL_LEASE_SECONDS\n"


async def test_a_health_watch_does_not_hold_up_the_shutdown(environment: dict[str, str]) -> None:
    environment["EASEL_DRAIN_GRACE_SECONDS"] = str(2 * PATIENCE_SECONDS)
    async with gateway(environment) as process:
        port = (await line_with(process, "listening on port")).split(" port ")[1].split()[0]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch  # type: ignore[attr-defined]  # missing in its stubs
            call = watch(health_pb2.HealthCheckRequest())
            await call.read()
            process.terminate()
            assert await process.wait() == 0


@pytest.mark.parametrize("setting", ["EASEL_LISTEN", "EASEL_METRICS_LISTEN"])
async def test_a_port_that_is_taken_is_one_line(servers: Servers, environment: dict[str, str], setting: str) -> None:
    environment[setting] = address = f"127.0.0.1:{servers.postgres.port}"
    status, output = await output_of(environment)
    assert status == 2
    assert output.splitlines()[-1].startswith(f"{setting}: cannot listen on {address}: ")
    assert "Traceback" not in output


@pytest.mark.parametrize("address", ["127.0.0.1:0", ""])
async def test_metrics_can_be_turned_off(environment: dict[str, str], address: str) -> None:
    environment["EASEL_METRICS_LISTEN"] = address
    async with gateway(environment) as process:
        assert process.stdout is not None
        said = ""
        while "action=listen " not in said:
            said += (await process.stdout.readline()).decode()
        assert ("action=listen_metrics" in said) == bool(address)
        process.terminate()
        assert await process.wait() == 0


async def test_the_log_goes_to_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "logs" / "gateway.log"
    environment |= {"EASEL_LOG_FILE": str(log), "EASEL_NATS_URL": "nats://127.0.0.1:1", "EASEL_LOG_FORMAT": "json"}
    async with gateway(environment) as process:
        while not (log.exists() and "listening on port" in log.read_text()):  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(0.05)
        process.terminate()
        output, _ = await process.communicate()
    assert output == b""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["message"] == "stopped"


async def test_a_log_file_is_rotated_and_old_ones_are_removed(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    # A line fills a file, and from its start to its end it says more than three.
    environment |= {"EASEL_LOG_FILE": str(log), "EASEL_LOG_ROTATION": "50 B", "EASEL_LOG_RETENTION": "2"}
    async with gateway(environment) as process:
        while "listening on port" not in all_of(tmp_path):  # noqa: ASYNC110  # files tell nobody
            await asyncio.sleep(0.01)
        process.terminate()
        await process.communicate()
    assert len(files_of(tmp_path)) == 3
    assert "stopped" in log.read_text()


async def test_below_its_level_a_log_says_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    environment |= {"EASEL_LOG_FILE": str(log), "EASEL_LOG_LEVEL": "ERROR"}
    async with gateway(environment) as process:
        while not log.exists():  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(0.05)
        process.terminate()
        await process.communicate()
    assert log.read_text() == ""


async def test_what_ends_it_at_once_is_a_line_for_collectors_too(environment: dict[str, str]) -> None:
    environment |= {"EASEL_LOG_FORMAT": "json", "EASEL_METRICS_LISTEN": "192.0.2.1:1"}
    status, output = await output_of(environment)
    line = json.loads(output.splitlines()[-1])
    assert status == 2
    assert line["level"] == "CRITICAL"
    assert line["message"].startswith("EASEL_METRICS_LISTEN: cannot listen on 192.0.2.1:1")


async def test_a_log_file_that_cannot_be_written_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    environment["EASEL_LOG_FILE"] = str(tmp_path)
    assert await output_of(environment) == (2, f"EASEL_LOG_FILE: cannot write {tmp_path}: Is a directory\n")


async def test_migrating_without_a_database_is_one_line(environment: dict[str, str]) -> None:
    environment["EASEL_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    status, output = await output_of(environment, "migrate")
    assert status == 1
    assert "out of reach" in output
    assert "Traceback" not in output


async def test_unknown_arguments_are_refused(environment: dict[str, str]) -> None:
    assert await output_of(environment, "fly") == (2, "usage: python -m gateway [migrate]\n")

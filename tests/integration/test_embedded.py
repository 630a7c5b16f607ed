"""The embedded servers: side by side, again on old data, after crashes, and when they cannot start."""

import asyncio
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import AsyncMock

import nats
import psutil
import psycopg
import pytest
from minio import Minio

from easel.embedded import Process, Servers, Stack, StackFailed
from easel.embedded.launch import NOBODY, demotion
from easel.embedded.leftovers import is_alive
from easel.embedded.nats import Nats
from easel.embedded.ports import BLOCK_SIZE, HOST, NoFreePort, PortBlock, is_free
from easel.embedded.postgres import Postgres
from easel.embedded.s3 import BUCKET
from easel.embedded.supervisor import supervise

#: A parent that starts servers, says so, and then only waits for its end.
PARENT = """
import asyncio, sys
from easel.embedded import Servers

async def main():
    await Servers(sys.argv[1]).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Run servers which these tests may break, as long as they mend them."""
    servers = Servers(tmp_path_factory.mktemp("own"))
    await servers.start()
    yield servers
    servers.kill()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run servers as children of a process that a test may kill."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "orphaned")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()
    # What is left is the next start's to clear away, down to the sockets in /tmp.
    servers = Servers(tmp_path / "orphaned")
    servers.prepare()
    servers.kill()


async def remember(servers: Servers, value: str) -> None:
    """Leave something in each server."""
    async with await psycopg.AsyncConnection.connect(servers.postgres.url) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS note (value text)")
        await connection.execute("INSERT INTO note VALUES (%s)", [value])
    client = await nats.connect(servers.nats.url("operator"))
    await client.jetstream().add_stream(name="NOTES", subjects=["notes"])
    await client.jetstream().publish("notes", value.encode())
    await client.close()
    body = value.encode()
    await asyncio.to_thread(s3_client(servers).put_object, BUCKET, "note", io.BytesIO(body), len(body))


async def recall(servers: Servers) -> list[str]:
    """Read what was left last in PostgreSQL, in NATS and in S3."""
    async with await psycopg.AsyncConnection.connect(servers.postgres.url) as connection:
        row = await (await connection.execute("SELECT max(value) FROM note")).fetchone()
    assert row is not None
    client = await nats.connect(servers.nats.url("operator"))
    message = await client.jetstream().get_last_msg("NOTES", "notes")
    await client.close()
    response = await asyncio.to_thread(s3_client(servers).get_object, BUCKET, "note")
    with response:
        return [row[0], (message.data or b"").decode(), response.data.decode()]


def s3_client(servers: Servers) -> Minio:
    endpoint = servers.s3.endpoint.removeprefix("http://")
    return Minio(
        endpoint, access_key=servers.s3.access_key, secret_key=servers.s3.secret_key, secure=False, region="us-east-1"
    )


def family(process: Process | subprocess.Popen[str]) -> list[psutil.Process]:
    """List a process with its descendants."""
    assert process.pid is not None
    head = psutil.Process(process.pid)
    return [head, *head.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


def listening(servers: Servers) -> set[int]:
    """List the ports on which the processes of a stack listen."""
    connections = []
    for process in servers.processes:
        for member in family(process):
            # PostgreSQL has some that come and go.
            with suppress(psutil.NoSuchProcess):
                connections += member.net_connections("inet")
    assert {connection.laddr.ip for connection in connections} == {HOST}
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def sockets(port: int) -> list[Path]:
    """List the Unix sockets that SeaweedFS makes for a port."""
    return list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


async def test_stacks_side_by_side_share_no_port_and_no_data(servers: Servers, own: Servers) -> None:
    await remember(own, "a")
    assert len(listening(own)) >= 10
    assert listening(servers).isdisjoint(listening(own))
    assert await asyncio.to_thread(lambda: list(s3_client(servers).list_objects(BUCKET, prefix="note"))) == []
    async with await psycopg.AsyncConnection.connect(servers.postgres.url) as connection:
        cursor = await connection.execute("SELECT to_regclass('note')")
        assert await cursor.fetchone() == (None,)


async def test_data_survive_a_stop_and_a_new_start_and_nothing_else_is_left(tmp_path: Path) -> None:
    async with Servers(tmp_path) as servers:
        await remember(servers, "kept")
        members = [member for process in servers.processes for member in family(process)]
        ports = listening(servers)
        environment = servers.environment(user="gateway")
        assert any(sockets(port) for port in ports)
    assert len(members) > 3
    assert gone(members)
    assert all(is_free(port) for port in ports)
    assert not any(sockets(port) for port in ports)
    assert not list((tmp_path / "processes").iterdir())
    async with Servers(tmp_path) as servers:
        assert await recall(servers) == ["kept"] * 3
        assert servers.environment(user="gateway") == environment


async def test_killed_servers_come_back_on_their_ports_with_their_data(own: Servers) -> None:
    await remember(own, "b")
    for process in own.processes:
        process.kill()
        assert not process.is_running
    await asyncio.gather(*(process.start() for process in own.processes))
    assert await recall(own) == ["b"] * 3


async def test_a_wiped_nats_is_empty_and_serves(own: Servers) -> None:
    await remember(own, "c")
    await own.nats.wipe()
    client = await nats.connect(own.nats.url("operator"))
    assert await client.jetstream().streams_info() == []
    await client.close()


async def test_a_paused_server_can_be_stopped(own: Servers) -> None:
    own.nats.pause()
    async with asyncio.timeout(10):
        while psutil.Process(own.nats.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110  # the signal is on its way
            await asyncio.sleep(0.01)
    assert own.nats.is_running
    await own.nats.stop()
    assert own.nats.status == 0
    await own.nats.start()


async def test_the_next_start_ends_what_a_killed_run_left(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    orphans = [orphan for orphan in family(parent) if orphan.pid != parent.pid]
    assert len(orphans) > 3
    heads = psutil.Process(parent.pid).children()
    # Stopped, they do not even hear that their parent died.
    for orphan in heads:
        orphan.suspend()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert not gone(heads)
    async with Servers(tmp_path / "orphaned") as servers:
        assert gone(orphans)
        await remember(servers, "new")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_children_end_with_a_parent_that_is_killed(parent: subprocess.Popen[str]) -> None:
    children = [child for child in family(parent) if child.pid != parent.pid]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while not gone(children):
        assert time.monotonic() < deadline, "children outlived their parent"
        psutil.wait_procs(children, timeout=0.02)


async def test_a_stale_postmaster_pid_of_a_process_that_is_another_now(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.prepare()
    await servers.postgres.start()
    lock = servers.postgres.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    servers.postgres.kill()
    lock.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    await servers.postgres.start()
    assert lock.read_text().startswith(f"{servers.postgres.pid}\n")
    servers.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
async def test_root_runs_postgresql_on_one_folder_with_and_without_user_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    programs.joinpath("unshare").write_text("#!/bin/sh\nexit 1\n")
    programs.joinpath("unshare").chmod(0o755)
    servers = Servers(tmp_path / "data")
    servers.prepare()
    owners = []
    for path in (os.environ["PATH"], f"{programs}:{os.environ['PATH']}", os.environ["PATH"]):
        monkeypatch.setenv("PATH", path)
        demotion.cache_clear()
        await servers.postgres.start()
        servers.postgres.kill()
        owners.append(servers.postgres.data.stat().st_uid)
    servers.kill()
    demotion.cache_clear()
    assert owners[1] == NOBODY
    assert owners[0] == owners[2]


async def test_a_folder_in_use_is_refused(own: Servers) -> None:
    with pytest.raises(StackFailed, match=rf"in use by a running stack \(process {os.getpid()}\)") as caught:
        await Servers(own.folder.path).start()
    assert "\n" not in str(caught.value)
    assert all(process.is_running for process in own.processes)


def test_more_processes_than_there_are_ports_for_are_refused(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.prepare()
    try:
        with pytest.raises(StackFailed, match="no ports for so many processes"):
            assert len({servers.take_port() for _ in range(BLOCK_SIZE)}) < BLOCK_SIZE
    finally:
        servers.kill()


@pytest.mark.parametrize("name", ["postgres", "nats", "s3"])
async def test_a_server_that_cannot_start_names_its_log(tmp_path: Path, name: str) -> None:
    servers = Servers(tmp_path)
    servers.prepare()
    process: Process = getattr(servers, name)
    port = servers.s3._ports["s3"] if name == "s3" else getattr(servers, name).port
    with socket.socket() as taken:
        taken.bind((HOST, port))
        with pytest.raises(StackFailed) as caught:
            await process.start()
    servers.kill()
    message = str(caught.value)
    assert message.startswith(f"{name} ended with status 1 before it was ready. Its log is {process.log} and ends with")
    assert str(port) in message


async def test_a_server_that_cannot_start_takes_the_others_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nats, "argv", lambda self: [sys.executable, "-c", "raise SystemExit('no more')"])
    servers = Servers(tmp_path)
    with pytest.raises(StackFailed, match=r"(?s)nats ended with status 1 .*no more"):
        await servers.start()
    assert not list((tmp_path / "processes").iterdir())
    servers.folder.hold()
    servers.folder.release()


async def test_a_server_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(Postgres, "start", AsyncMock())
    with pytest.raises(StackFailed, match=r"is not installed here: pip install 'easel\[local\]'"):
        await Servers(tmp_path).start()


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    start = asyncio.create_task(servers.start())
    while not servers.folder.processes.joinpath("s3.json").exists():  # noqa: ASYNC110  # nobody could set an event
        await asyncio.sleep(0)
    members = family(servers.s3)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert gone(members)
    assert not list((tmp_path / "processes").iterdir())


async def test_a_supervised_process_that_ends_is_started_again(tmp_path: Path) -> None:
    reports: asyncio.Queue[str] = asyncio.Queue()
    stack = Stack(tmp_path, gateways=0, workers=0)
    await stack.start()
    supervision = asyncio.create_task(supervise(stack, report=reports.put_nowait))
    dead = stack.servers.nats.pid
    os.kill(dead, signal.SIGKILL)
    assert await reports.get() == f"nats ended with status -9; starting it again in 0.5 s ({stack.logs}/nats.log)"
    assert await reports.get() == "nats is back"
    assert stack.servers.nats.is_running
    assert stack.servers.nats.pid != dead
    supervision.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervision
    stack.kill()


async def test_what_is_done_while_all_run_fails_when_one_ends(tmp_path: Path) -> None:
    stack = Stack(tmp_path, gateways=0, workers=0)
    await stack.start()
    assert await stack.while_all_run(asyncio.sleep(0, "done")) == "done"
    os.kill(stack.servers.nats.pid, signal.SIGKILL)
    with pytest.raises(StackFailed, match=rf"nats ended with status -9. Its log is {stack.logs}/nats.log"):
        await stack.while_all_run(asyncio.Event().wait())
    stack.kill()


async def test_a_gateway_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackFailed, match=rf"^port {port} is taken: --port names another one"):
            await Stack(tmp_path, gateway_port=port, workers=0).start()


def test_a_taken_block_of_ports_is_given_to_nobody_else() -> None:
    first = PortBlock.claim()
    second = PortBlock.claim(preferred=first.base)
    assert second.base != first.base
    second.release()
    first.release()
    again = PortBlock.claim(preferred=first.base)
    assert again.base == first.base
    again.release()


def test_a_port_that_somebody_listens_on_is_left_out() -> None:
    block = PortBlock.claim()
    with socket.create_server((HOST, block.base + 1)), socket.create_server((HOST, block.base + 10_002)):
        assert block.take() == block.base + 3
    block.release()


def test_a_port_that_was_given_back_is_given_out_again_after_all_others() -> None:
    block = PortBlock.claim()
    first = block.take()
    block.give_back(first)
    later: list[int] = []
    with suppress(NoFreePort):
        while True:
            later.append(block.take())
    assert later.index(first) == len(later) - 1
    block.release()

"""Every connection under TLS, with an authority that only the settings know."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
import urllib3

from easel import checks
from easel.bus import RECONNECT_WAIT_SECONDS, Bus
from easel.client import Client, GenerationSpec
from easel.embedded import Servers
from easel.embedded.nats import Nats
from easel.embedded.ports import HOST
from easel.embedded.s3 import S3
from easel.embedded.services import Gateway, Worker, live_workers
from easel.finding import Verdict
from easel.settings import Settings
from easel.v1.generation_pb2 import GenerationState
from gateway.errors import DatabaseUnavailable
from gateway.record import schema
from tests import scripted
from tests.integration.calls import until

PATIENCE_SECONDS = 20.0
#: What a client of PostgreSQL sends first if it wants TLS.
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


@dataclass(frozen=True)
class Authority:
    """An authority, and a server's certificate by it, as files."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert(HOST)
        made = cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        authority.cert_pem.write_to_path(str(made.ca))
        issued.cert_chain_pems[0].write_to_path(str(made.certificate))
        issued.private_key_pem.write_to_path(str(made.key))
        return made


class NatsWithTls(Nats):
    """NATS that takes nobody without TLS."""

    authority: Authority

    def url(self, user: str) -> str:
        return super().url(user).replace("nats://", "tls://")  # type: ignore[arg-type]

    def _configuration(self) -> dict[str, object]:
        tls = {"cert_file": str(self.authority.certificate), "key_file": str(self.authority.key)}
        return {**super()._configuration(), "tls": tls}


class S3WithTls(S3):
    """S3 with an https port beside the other."""

    authority: Authority
    https_port: int

    def argv(self) -> Sequence[str]:
        files = [f"-s3.cert.file={self.authority.certificate}", f"-s3.key.file={self.authority.key}"]
        return [*super().argv(), f"-s3.port.https={self.https_port}", *files]


@contextlib.asynccontextmanager
async def postgres_with_tls(port: int, authority: Authority) -> AsyncIterator[int]:
    """Stand before the embedded PostgreSQL, which was built without TLS, and give the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
        with contextlib.suppress(OSError, EOFError, ssl.SSLError):
            assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST, "it came without TLS"
            writer.write(b"S")
            await writer.start_tls(context)
            behind_reader, behind_writer = await asyncio.open_connection(HOST, port)
            async with asyncio.TaskGroup() as group:
                group.create_task(pipe(reader, behind_writer))
                group.create_task(pipe(behind_reader, writer))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Servers with TLS, and the settings of who comes to them."""

    servers: Servers
    authority: Authority
    stranger: Authority
    database_url: str

    def environment(self, user: str) -> Mapping[str, str]:
        assert isinstance(self.servers.s3, S3WithTls)
        endpoint = f"https://{HOST}:{self.servers.s3.https_port}"
        return {
            **self.servers.environment(user=user),  # type: ignore[arg-type]  # a user is a text
            "EASEL_DATABASE_URL": f"{self.database_url}?sslmode=verify-full&sslrootcert={self.authority.ca}",
            "EASEL_NATS_CA_FILE": str(self.authority.ca),
            "EASEL_S3_CA_FILE": str(self.authority.ca),
            "EASEL_S3_ENDPOINT": endpoint,
            "EASEL_S3_PUBLIC_ENDPOINT": endpoint,
        }

    def settings(self, user: str, **different: str) -> Settings:
        names = Settings.model_fields
        given = {name.removeprefix("EASEL_").lower(): value for name, value in self.environment(user).items()}
        return Settings(**{name: value for name, value in {**given, **different}.items() if name in names})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority.make(root / "authority"), Authority.make(root / "stranger")
    servers = Servers(root / "data")
    servers.prepare()
    try:
        servers.nats.__class__, servers.s3.__class__ = NatsWithTls, S3WithTls
        servers.nats.authority = servers.s3.authority = authority  # type: ignore[attr-defined]
        servers.s3.https_port = servers.take_port()  # type: ignore[attr-defined]
        await asyncio.gather(servers.postgres.start(), servers.nats.start(), servers.s3.start())
        url = servers.postgres.url
        async with postgres_with_tls(urlsplit(url).port or 0, authority) as port:
            database_url = url.replace(f":{urlsplit(url).port}", f":{port}")
            yield Place(servers=servers, authority=authority, stranger=stranger, database_url=database_url)
    finally:
        await servers.stop()


@pytest.fixture
def services(place: Place) -> Iterator[tuple[Gateway, Worker]]:
    def address() -> str:
        return f"{HOST}:{place.servers.take_port()}"

    folder = place.servers.folder
    target = address()
    gateway = Gateway(
        "gateway", target=target, metrics=address(), folder=folder, environment=place.environment("gateway")
    )

    async def is_counted() -> bool:
        return bool(await live_workers(target))

    worker = Worker(
        "worker",
        module="tests.scripted",
        metrics=address(),
        folder=folder,
        environment={**place.environment("worker"), "EASEL_MODEL": "scripted", **scripted.ENVIRONMENT},
        is_counted=is_counted,
    )
    yield gateway, worker
    worker.kill()
    gateway.kill()


async def test_a_picture_is_drawn_where_nothing_is_said_in_the_clear(
    place: Place, services: tuple[Gateway, Worker]
) -> None:
    gateway, worker = services
    await asyncio.to_thread(schema.migrate, place.environment("gateway")["EASEL_DATABASE_URL"])
    await gateway.start()
    await worker.start()
    async with Client(gateway.target) as client:
        async for event in client.generate(GenerationSpec(model="scripted", prompt="a castle")):
            last = event.generation
    assert last.state == GenerationState.GENERATION_STATE_SUCCEEDED
    (image,) = last.images
    assert image.url.startswith("https://")
    pool = urllib3.PoolManager(ca_certs=str(place.authority.ca))
    answer = await asyncio.to_thread(pool.request, "GET", image.url)
    assert len(answer.data) == image.size_bytes


async def test_the_doctor_finds_nothing_wrong(place: Place) -> None:
    settings = place.settings("gateway")
    findings = [*await checks.check_nats(settings, with_streams=False), *await checks.check_storage(settings)]
    assert [finding for finding in findings if finding.verdict is Verdict.FAIL] == []


@pytest.mark.parametrize("setting", ["nats_ca_file", "s3_ca_file"])
async def test_who_trusts_another_authority_is_told_what_is_wrong(place: Place, setting: str) -> None:
    settings = place.settings("gateway", **{setting: str(place.stranger.ca)})
    findings = [*await checks.check_nats(settings, with_streams=False), *await checks.check_storage(settings)]
    (wrong,) = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    assert wrong.check == {"nats_ca_file": "NATS", "s3_ca_file": "S3"}[setting]
    assert "certificate verify failed" in wrong.found.lower()


async def test_a_bus_goes_on_trying_until_the_server_shows_what_it_trusts(place: Place) -> None:
    server = place.servers.nats
    assert isinstance(server, NatsWithTls)
    bus = Bus()

    async def is_connected() -> bool:
        return bus.connected_seconds > 0

    async def show(authority: Authority) -> None:
        await server.stop()
        server.authority = authority
        await server.start()

    connecting = asyncio.create_task(bus.connect(server.url("worker"), name="test", ca_file=str(place.stranger.ca)))
    try:
        done, _ = await asyncio.wait([connecting], timeout=1.0)
        assert not done
        assert not await is_connected()
        # As when a certificate has run out and is renewed: first while it connects, then while it is connected.
        for _ in range(2):
            await show(place.stranger)
            await until(is_connected)
            await show(place.authority)
            # Longer than it waits between two tries.
            await asyncio.sleep(4 * RECONNECT_WAIT_SECONDS)
            assert not await is_connected()
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await bus.close()


async def test_nothing_is_said_to_a_server_that_offers_no_tls(place: Place) -> None:
    heard = b""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b'INFO {"server_id": "x", "version": "2.15.0", "max_payload": 1024, "auth_required": true}\r\n')
        heard += await reader.read(1024)
        writer.close()

    async with await asyncio.start_server(greet, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        for url, ca_file in ((f"tls://worker:secret@{HOST}:{port}", ""), (f"nats://worker:secret@{HOST}:{port}", "ca")):
            settings = place.settings("worker", nats_url=url, nats_ca_file=ca_file and str(place.authority.ca))
            (finding,) = await checks.check_nats(settings, with_streams=False)
            assert "offers no TLS" in finding.found
    assert heard == b""


async def test_a_database_under_another_authority_is_not_spoken_to(place: Place) -> None:
    url = f"{place.database_url}?sslmode=verify-full&sslrootcert={place.stranger.ca}"
    with pytest.raises(DatabaseUnavailable) as refused:
        await asyncio.to_thread(schema.is_current, url)
    assert "certificate verify failed" in str(refused.value.__cause__)

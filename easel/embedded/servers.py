"""PostgreSQL, NATS and S3 on one data folder."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from easel.embedded.failure import StackFailed
from easel.embedded.folder import DataFolder
from easel.embedded.leftovers import end_leftovers
from easel.embedded.nats import Nats, User
from easel.embedded.ports import NoFreePort, PortBlock
from easel.embedded.postgres import Postgres
from easel.embedded.process import Process
from easel.embedded.s3 import BUCKET, REGION, S3
from easel.embedded.together import together


class Servers:
    """The three servers that gateways and workers need; they exist, with their ports, from `start` on.

    Use it as `async with Servers(folder) as servers:`, or call `start` and `stop`.
    """

    postgres: Postgres
    nats: Nats
    s3: S3

    def __init__(self, folder: Path | str) -> None:
        self.folder = DataFolder(Path(folder))
        self._ports: PortBlock | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def processes(self) -> Sequence[Process]:
        """Every process, in the order in which they stop."""
        return [] if self._ports is None else [self.nats, self.s3, self.postgres]

    async def start(self) -> None:
        """Start the servers at once and wait until all are ready; if one fails, or on a cancel, stop them all.

        Raises:
            StackFailed: what failed, and which log to read.
        """
        self.prepare()
        try:
            await together(self.postgres.start(), self.nats.start(), self.s3.start())
        except BaseException:
            await self.stop()
            raise

    def prepare(self) -> None:
        """Take the folder, end what an earlier run left in it, and give every server its ports.

        Raises:
            StackFailed: the folder is in use or cannot be written, or no ports are left.
        """
        self.folder.hold()
        try:
            end_leftovers(self.folder.processes)
            self._ports = self._claim_ports()
            self.postgres = Postgres(folder=self.folder, port=self._ports.take())
            self.nats = Nats(folder=self.folder, port=self._ports.take())
            self.s3 = S3(folder=self.folder, ports=self._ports)
        except BaseException as error:
            self.release()
            if isinstance(error, NoFreePort):
                raise StackFailed(f"no free ports on this machine: {error}") from error
            raise

    def take_port(self) -> int:
        """Give out one more port of this stack's own.

        Raises:
            StackFailed: it has no more.
        """
        if self._ports is None:
            raise RuntimeError("there are ports once the servers were prepared")
        try:
            return self._ports.take()
        except NoFreePort as error:
            raise StackFailed(f"no ports for so many processes: {error}") from error

    def give_back_port(self, port: int) -> None:
        """Take back a port whose process has ended for good."""
        if self._ports is not None:
            self._ports.give_back(port)

    async def stop(self) -> None:
        """Stop the servers and let go of folder and ports; harmless when nothing runs."""
        try:
            await asyncio.gather(*(process.stop() for process in self.processes))
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the servers at once and let go of folder and ports."""
        for process in self.processes:
            process.kill()
        self.release()

    def release(self) -> None:
        """Let go of folder and ports."""
        if self._ports is not None:
            self._ports.release()
            self._ports = None
        self.folder.release()

    def environment(self, *, user: User) -> Mapping[str, str]:
        """Make the settings with which a service finds the servers."""
        settings = {
            "NATS_URL": self.nats.url(user),
            "S3_ENDPOINT": self.s3.endpoint,
            "S3_PUBLIC_ENDPOINT": self.s3.endpoint,
            "S3_REGION": REGION,
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY": self.s3.access_key,
            "S3_SECRET_KEY": self.s3.secret_key,
        }
        if user == "gateway":
            settings["DATABASE_URL"] = self.postgres.url
        return {f"EASEL_{name}": value for name, value in settings.items()}

    def _claim_ports(self) -> PortBlock:
        """Take the ports of the run before, unless somebody else has them now."""
        file = self.folder.path / "ports.json"
        preferred = json.loads(file.read_text())["base"] if file.exists() else None
        block = PortBlock.claim(preferred=preferred)
        file.write_text(json.dumps({"base": block.base}))
        return block

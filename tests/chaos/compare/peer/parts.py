"""The processes of the peer, beside Redis: the service in front, and the workers."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2

from easel.embedded.folder import DataFolder
from easel.embedded.ports import HOST
from easel.embedded.process import Process

ROOT = Path(__file__).parents[4]


class Api(Process):
    """The service in front, under uvicorn."""

    def __init__(self, *, folder: DataFolder, port: int, environment: Mapping[str, str]) -> None:
        super().__init__("api", folder=folder)
        self._port = port
        self._environment = environment

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def place(self) -> str:
        return self.url

    def argv(self) -> Sequence[str]:
        where = ("--host", HOST, "--port", str(self._port), "--log-level", "warning")
        return [sys.executable, "-m", "uvicorn", "tests.chaos.compare.peer.api:app", *where]

    def environment(self) -> Mapping[str, str]:
        return self._environment

    async def is_ready(self) -> bool:
        try:
            async with httpx2.AsyncClient(base_url=self.url) as client:
                return (await client.get("/openapi.json")).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False


class DramatiqWorker(Process):
    """One worker process that draws one picture at a time."""

    def __init__(self, name: str, *, folder: DataFolder, environment: Mapping[str, str]) -> None:
        super().__init__(name, folder=folder)
        self._environment = environment

    @property
    def place(self) -> str:
        return "one thread"

    def argv(self) -> Sequence[str]:
        return [
            sys.executable,
            "-m",
            "dramatiq",
            "tests.chaos.compare.peer.tasks",
            "--processes",
            "1",
            "--threads",
            "1",
        ]

    def environment(self) -> Mapping[str, str]:
        return self._environment

    async def is_ready(self) -> bool:
        """It says nothing to anybody when it is ready: what counts is that it draws."""
        return self.is_running

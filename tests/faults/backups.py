"""Backups of the record and their restoration, with PostgreSQL's own tools, as `docs/operations.md` tells operators."""

import shutil
from pathlib import Path
from typing import Protocol

from easel.embedded import Servers
from easel.embedded.postgres import DATABASE, binary
from easel.embedded.process import clean_environment, run_to_end


class Backup(Protocol):
    """One way to take a copy of the record and to put it back."""

    async def take(self) -> None:
        """Copy the record as it is now, while everything runs."""
        ...

    async def restore(self) -> None:
        """Put the record back as it was then."""
        ...


class Dump:
    """With pg_dump, into a new database; nobody else may be connected when it is restored."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._file = folder / "easel.dump"

    async def take(self) -> None:
        await self._run("pg_dump", "--format=custom", f"--file={self._file}", self._servers.postgres.url)

    async def restore(self) -> None:
        url = self._servers.postgres.url
        elsewhere = f"--maintenance-db={url.removesuffix(DATABASE)}postgres"
        await self._run("dropdb", elsewhere, DATABASE)
        await self._run("createdb", elsewhere, DATABASE)
        await self._run("pg_restore", "--exit-on-error", f"--dbname={url}", str(self._file))

    async def _run(self, program: str, *arguments: str) -> None:
        await _run(self._servers, program, *arguments)


class BaseBackup:
    """With pg_basebackup, of the whole server, which is killed when it is restored: whoever is connected is cut off."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._copy = folder / "base"

    async def take(self) -> None:
        url = self._servers.postgres.url
        await _run(self._servers, "pg_basebackup", f"--pgdata={self._copy}", f"--dbname={url}", "--checkpoint=fast")

    async def restore(self) -> None:
        postgres = self._servers.postgres
        postgres.kill()
        shutil.rmtree(postgres.data)
        shutil.copytree(self._copy, postgres.data)
        await postgres.start()


async def _run(servers: Servers, program: str, *arguments: str) -> None:
    argv, folder = [str(binary(program)), *arguments], servers.folder
    await run_to_end(program, argv=argv, environment=clean_environment(folder.path), folder=folder)

"""The connection to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from loguru import logger
from psycopg.types.string import TextLoader
from sqlalchemy import CursorResult, Executable, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gateway.errors import DatabaseUnavailable

CONNECT_TIMEOUT_SECONDS = 5


def driver_url(url: str) -> str:
    """Name the driver in a plain PostgreSQL URL, as SQLAlchemy wants it."""
    _, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}"


def _read_uuids_as_text(connection: DBAPIConnection, _record: object) -> None:
    # Ids are text everywhere else: in messages, subjects and logs.
    connection.driver_connection.adapters.register_loader("uuid", TextLoader)


class Database:
    """A pool of connections. What is raised for a lost, slow or refused one is `DatabaseUnavailable`, always."""

    def __init__(self, url: str, *, pool_size: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._engine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_seconds,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "easel-gateway"},
        )
        event.listen(self._engine.sync_engine, "connect", _read_uuids_as_text)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement, which is its own transaction: one round trip, durable when this returns.

        Raises:
            DatabaseUnavailable: whether the statement took effect is not known.
        """
        async with self._reached(), self._autocommit.connect() as connection:
            return await connection.execute(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Run several statements in one transaction: committed at the end, rolled back by an exception.

        Raises:
            DatabaseUnavailable: whether the transaction was committed is not known.
        """
        async with self._reached(), self._engine.begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except DBAPIError as error:
            if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
                logger.warning("the database is out of reach: {}", error.orig, action="database_unavailable")
                raise DatabaseUnavailable from error
            raise
        except (PoolTimeoutError, TimeoutError, psycopg.OperationalError, OSError) as error:
            logger.warning("the database is out of reach: {!r}", error, action="database_unavailable")
            raise DatabaseUnavailable from error

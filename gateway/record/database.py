"""The connection to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import psycopg.errors
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
    """A pool of connections. What is raised for a lost, slow or refused one is `DatabaseUnavailable`, always.

    Args:
        url: A plain PostgreSQL URL.
        pool_size: The most connections.
        timeout_seconds: How long a statement may take, and how long it may wait for a connection.
        on_unavailable: Called each time that `DatabaseUnavailable` is raised.
    """

    def __init__(
        self, url: str, *, pool_size: int, timeout_seconds: float, on_unavailable: Callable[[], None] = lambda: None
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._on_unavailable = on_unavailable
        self._abandoned: set[asyncio.Future[CursorResult[Any]]] = set()
        self._engine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # among them are prompts, which must not get into logs
            pool_timeout=timeout_seconds,
            isolation_level="AUTOCOMMIT",  # most statements are transactions of their own
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "easel-gateway"},
        )
        event.listen(self._engine.sync_engine, "connect", _read_uuids_as_text)
        self._transactional = self._engine.execution_options(isolation_level="READ COMMITTED")

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement, which is its own transaction: one round trip, durable when this returns.

        Raises:
            DatabaseUnavailable: whether the statement took effect is not known.
        """
        running = asyncio.ensure_future(self._execute(statement, parameters))
        try:
            await asyncio.wait([running], timeout=self._timeout_seconds)
            if running.done():
                return running.result()
        finally:
            if not running.done():
                self._abandon(running)
        raise self._unavailable(f"no answer within {self._timeout_seconds:g} s")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Run several statements in one transaction: committed at the end, rolled back by an exception.

        Raises:
            DatabaseUnavailable: whether the transaction was committed is not known.
        """
        async with self._reached(), asyncio.timeout(self._timeout_seconds), self._transactional.begin() as connection:
            yield Transaction(connection)

    async def close(self) -> None:
        """Close every connection."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=self._timeout_seconds)
        await self._engine.dispose()

    async def _execute(self, statement: Executable, parameters: Any) -> CursorResult[Any]:
        async with self._reached(), self._engine.connect() as connection:
            return await connection.execute(statement, parameters)

    def _abandon(self, running: "asyncio.Future[CursorResult[Any]]") -> None:
        """Cancel a statement without waiting for it: with a frozen server, psycopg takes ten seconds to give up."""
        running.cancel()
        self._abandoned.add(running)

        def forget(done: "asyncio.Future[CursorResult[Any]]") -> None:
            self._abandoned.discard(done)
            if not done.cancelled():
                done.exception()  # seen, and of no interest any more

        running.add_done_callback(forget)

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            yield
        except DBAPIError as error:
            # A missing table: nobody has migrated the database yet.
            no_schema = isinstance(error.orig, psycopg.errors.UndefinedTable)
            if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated or no_schema:
                raise self._unavailable(error.orig) from error
            raise
        except (PoolTimeoutError, TimeoutError, psycopg.OperationalError, OSError) as error:
            raise self._unavailable(repr(error)) from error

    def _unavailable(self, problem: object) -> DatabaseUnavailable:
        logger.warning("the database is out of reach: {}", problem, action="database_unavailable")
        self._on_unavailable()
        return DatabaseUnavailable()


class Transaction:
    """Statements that are committed together."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement in it."""
        return await self._connection.execute(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Go on in this one."""
        yield self

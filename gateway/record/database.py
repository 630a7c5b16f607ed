"""The connection to PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
import psycopg.errors
from loguru import logger
from psycopg.types.string import TextLoader
from sqlalchemy import CursorResult, Executable, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.errors import DatabaseUnavailable

CONNECT_TIMEOUT_SECONDS = 5

Result = TypeVar("Result")
InTime = Callable[[Awaitable[Any]], Awaitable[Any]]


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
        self._abandoned: set[asyncio.Future[Any]] = set()
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
        return await self._in_time(self._execute(statement, parameters), ends=self._end())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Run several statements in one transaction: committed at the end, rolled back by an exception.

        Raises:
            DatabaseUnavailable: whether the transaction was committed is not known.
        """
        ends = self._end()
        async with self._reached():
            connection = await self._in_time(_connect(self._transactional), ends=ends)
            transaction = Transaction(connection, partial(self._in_time, ends=ends))
            try:
                yield transaction
                await transaction.commit()
            finally:
                closing = asyncio.ensure_future(transaction.close())
                await asyncio.wait([closing], timeout=ends - time.monotonic())
                self._keep(closing)

    async def close(self) -> None:
        """Close every connection."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=self._timeout_seconds)
        await self._engine.dispose()

    async def _execute(self, statement: Executable, parameters: Any) -> CursorResult[Any]:
        async with self._reached(), self._engine.connect() as connection:
            return await connection.execute(statement, parameters)

    def _end(self) -> float:
        return time.monotonic() + self._timeout_seconds

    async def _in_time(self, action: Awaitable[Result], *, ends: float) -> Result:
        """Await something until a time, then go on without it: on a frozen server, psycopg takes 10 s to cancel it."""
        running = asyncio.ensure_future(action)
        try:
            await asyncio.wait([running], timeout=ends - time.monotonic())
            if running.done():
                return running.result()
        finally:
            if not running.done():
                running.cancel()
                self._keep(running)
        raise self._unavailable(f"no answer within {self._timeout_seconds:g} s")

    def _keep(self, abandoned: "asyncio.Future[Any]") -> None:
        """Hold on to what nobody waits for, until it is done."""
        self._abandoned.add(abandoned)

        def forget(done: "asyncio.Future[Any]") -> None:
            self._abandoned.discard(done)
            if not done.cancelled():
                done.exception()  # seen, and of no interest any more

        abandoned.add_done_callback(forget)

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

    def __init__(self, connection: AsyncConnection, in_time: InTime) -> None:
        self._connection = connection
        self._in_time = in_time
        self._running: asyncio.Future[Any] | None = None

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement in it."""
        result: CursorResult[Any] = await self._run(self._connection.execute(statement, parameters))
        return result

    async def commit(self) -> None:
        """Make it last."""
        await self._run(self._connection.commit())

    async def close(self) -> None:
        """Give the connection back; what is not committed is rolled back."""
        if self._running is not None:
            await asyncio.wait([self._running])  # it may have been abandoned, and still be under way
        await self._connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Go on in this one."""
        yield self

    async def _run(self, action: Coroutine[Any, Any, Any]) -> Any:
        self._running = asyncio.ensure_future(action)
        return await self._in_time(self._running)


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()

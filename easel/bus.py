"""The connection to NATS that both services share: it never gives up, never buffers, and says when it is there."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError, Message
from loguru import logger
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from easel import tracing
from easel.permissions import inbox_of

RECONNECT_WAIT_SECONDS = 0.25
PING_INTERVAL_SECONDS = 10
REQUEST_TIMEOUT_SECONDS = 2.0

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True)
class _Listener:
    """Who is called back for what."""

    subject: str
    queue: str
    callback: Callable[[Msg], Awaitable[None]]


class PatientClient(Client):
    """nats-py's client, whose requests can always be cancelled, and which gets over a handshake that failed.

    Where TLS is asked for, it says nothing to a server that offers none.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        wants_tls = "tls" in self.options or any(server.uri.scheme == "tls" for server in self._server_pool)
        if initial_connection and wants_tls and not info.get("tls_required"):
            # nats-py itself would send the password in the clear.
            raise nats.errors.Error("nats: the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except Exception:
            # It would wait for the connection to be closed, and after a TLS handshake that failed nobody tells it so.
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
                self._transport = None
            raise

    async def request(self, *arguments: Any, **options: Any) -> Msg:
        """Ask, and wait for the answer."""
        # It waits with asyncio.wait_for, which in Python 3.11 takes no notice of a cancellation that comes together
        # with the answer: whoever asks again and again would never end.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for the type checker
        cancellations = task.cancelling()
        answer = await super().request(*arguments, **options)
        if task.cancelling() > cancellations:
            raise asyncio.CancelledError
        return answer


class BusUnavailable(Exception):
    """NATS, or whoever should have answered over it, is out of reach. Whether the message arrived is not known."""


class Bus:
    """A connection to NATS with JetStream.

    While it is down, publishing raises instead of buffering: a buffered message would go out later, when nobody expects
    it any more.
    """

    def __init__(self) -> None:
        self._client = PatientClient()
        self._connect_callbacks: list[Callable[[], None]] = []
        self._listeners: dict[_Listener, Subscription | None] = {}
        self._connected_since: float | None = None
        self._closing = self._told = False
        self._opening: asyncio.Task[None] | None = None

    async def connect(self, url: str, *, name: str, ca_file: str = "") -> None:
        """Connect, trying for as long as it takes.

        Answers come to inboxes of the URL's user alone: `easel.permissions` says what the server should hold it to.

        Args:
            url: Where NATS is, with a user and a password where it wants them; several servers of one cluster with
                commas between.
            name: How this client is called there.
            ca_file: The authorities that a server with TLS is checked against; those of the system when empty.

        Raises:
            ValueError: the URL is none.
            OSError: the file cannot be read, or holds no certificates.
        """
        self._address, self._name = address_of(url, ca_file=ca_file), name
        await self._open()

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream, while there is a connection.

        Raises:
            BusUnavailable: there is none. (nats-py keeps a trace of each request that it could not send.)
        """
        self._require_connection()
        return self._client.jetstream(timeout=REQUEST_TIMEOUT_SECONDS)

    @property
    def connected_seconds(self) -> float:
        """How long the connection has been up without a break; 0 while it is down."""
        if self._connected_since is None or not self._client.is_connected:
            return 0.0
        return time.monotonic() - self._connected_since

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call back after every reconnection; after the first connection only if registered before it.

        The callback must return at once: it only wakes the one who then does the work.
        """
        self._connect_callbacks.append(callback)

    async def request(
        self,
        subject: str,
        message: Message,
        reply_type: type[Reply],
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Reply:
        """Ask and wait for the answer.

        Raises:
            BusUnavailable: nobody answered in time, or not in a way that can be read.
        """
        self._require_connection()
        try:
            reply = await self._client.request(subject, message.SerializeToString(), timeout=timeout_seconds)
            return reply_type.FromString(reply.data)
        except (nats.errors.Error, TimeoutError, DecodeError) as error:
            raise BusUnavailable(f"no answer on {subject}: {_describe(error)}") from error

    async def publish(self, subject: str, message: Message, *, message_id: str | None = None) -> None:
        """Store a message in the stream of its subject and wait until JetStream says so.

        The span in which that is done goes along in a header.

        Raises:
            BusUnavailable: JetStream did not say so in time; the message may have been stored all the same.
        """
        headers = {"Nats-Msg-Id": message_id, tracing.HEADER: tracing.current()}
        given = {name: value for name, value in headers.items() if value}
        try:
            await self.jetstream.publish(subject, message.SerializeToString(), headers=given or None)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"not stored on {subject}: {_describe(error)}") from error

    async def tell(self, subject: str, message: Message) -> None:
        """Send a message at most once, to whoever listens now; while the connection is down it is dropped."""
        try:
            await self._client.publish(subject, message.SerializeToString())
        except nats.errors.Error as error:
            logger.debug("dropped a message on {}: {}", subject, _describe(error), action="bus_drop")

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> None:
        """Call back for every message on a subject, across reconnections."""
        listener = _Listener(subject, queue, callback)
        self._listeners[listener] = None
        await self._listen(listener)

    async def stop_listening(self) -> None:
        """End all subscriptions made with `subscribe`, so that others of their queue groups are asked instead."""
        listening, self._listeners = self._listeners, {}
        for subscription in listening.values():
            try:
                if subscription is not None:
                    await subscription.unsubscribe()
            except nats.errors.Error as error:
                logger.debug("while unsubscribing: {}", _describe(error), action="bus_unsubscribe")

    async def last(self, stream: str, subject: str, message_type: type[Reply]) -> Reply | None:
        """Read the last message that a stream remembers of a subject, or None if there is none or no telling."""
        try:
            found = await self.jetstream.get_last_msg(stream, subject, direct=True)
            return message_type.FromString(found.data or b"")
        except (BusUnavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError, DecodeError):
            return None

    async def terminate(self, message: Msg, *, reason: str) -> None:
        """Take a JetStream message off its consumer for good, with a reason, which nats-py's own `term` cannot give."""
        await self._client.publish(message.reply, f"+TERM {reason}".encode())

    async def close(self) -> None:
        """Close at once; nothing is buffered that could be lost."""
        self._closing = True
        self._connect_callbacks.clear()
        if self._opening is not None:
            self._opening.cancel()
        if self._connected_since is None and not self._client.is_reconnecting:
            return  # it never connected
        try:
            await self._client.close()
        except nats.errors.Error as error:
            logger.debug("while closing NATS: {}", _describe(error), action="bus_close")

    async def _open(self) -> None:
        try:
            await self._client.connect(
                **self._address,
                name=self._name,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # it takes fractions too
                ping_interval=PING_INTERVAL_SECONDS,
                max_outstanding_pings=2,
                pending_size=0,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_connected,
                closed_cb=self._on_closed,
            )
        except nats.errors.Error as error:
            raise ValueError(f"cannot connect to NATS: {_describe(error)}") from error
        for listener in self._listeners:
            await self._listen(listener)
        await self._on_connected()

    async def _listen(self, listener: "_Listener") -> None:
        self._listeners[listener] = await self._client.subscribe(
            listener.subject, queue=listener.queue, cb=listener.callback
        )

    def _require_connection(self) -> None:
        if not self._client.is_connected:
            raise BusUnavailable("not connected to NATS")

    async def _on_connected(self) -> None:
        self._connected_since = time.monotonic()
        logger.info("connected to NATS", action="bus_connected")
        for callback in self._connect_callbacks:
            callback()

    async def _on_disconnected(self) -> None:
        self._connected_since = None
        if not self._closing:
            logger.warning("lost the connection to NATS", action="bus_disconnected")

    async def _on_closed(self) -> None:
        """Begin anew: an error that the server sends, such as for revoked credentials, closes nats-py's client."""
        if self._closing:
            return
        self._connected_since = None
        logger.error("NATS closed the connection; connecting anew", action="bus_closed")
        self._client = PatientClient()
        self._opening = asyncio.create_task(self._open())

    async def _on_error(self, error: Exception) -> None:
        # While there is no connection it comes with every try: the first one says it all.
        waits_first_time = self._connected_since is None and not self._told
        self._told = self._connected_since is None
        level = "WARNING" if waits_first_time else "DEBUG"
        logger.log(level, "NATS: {}", _describe(error), action="bus_error")


def trace_of(message: Msg) -> str:
    """Read the span in which a message was published; empty without one."""
    return (message.headers or {}).get(tracing.HEADER, "")


def address_of(url: str, *, ca_file: str) -> Mapping[str, Any]:
    """Give what nats-py's client needs to find a server and to be let in; see `Bus.connect`.

    Raises:
        OSError: the file cannot be read, or holds no certificates.
    """
    servers = url.split(",")
    first = urlsplit(servers[0])
    # What comes without a password is no name but a token, and must not get around.
    user = first.username if first.username and first.password else ""
    address = {"servers": servers, "inbox_prefix": inbox_of(user)}
    return {**address, "tls": ssl.create_default_context(cafile=ca_file)} if ca_file else address


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__

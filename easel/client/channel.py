"""The gRPC channel to the service: its options, and which calls gRPC itself may repeat."""

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import grpc.aio

from easel.client.errors import Unavailable

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

#: What those are told who have calls under way, or begin one, when the client is closed.
CLOSED = "the client was closed"

#: The server permits a ping every 20 s.
KEEPALIVE_SECONDS = 30
KEEPALIVE_TIMEOUT_SECONDS = 10

#: A connection that died without a word is noticed after this time at the latest.
DEAD_CONNECTION_SECONDS = KEEPALIVE_SECONDS + KEEPALIVE_TIMEOUT_SECONDS

#: The calls that may be repeated freely. Those that make generations are among them, since our requests always have a
#: request_id; deleting what is deleted already succeeds. Streams are not: the client resumes them itself.
REPEATABLE = {
    "easel.v1.GenerationService": (
        "CreateGeneration",
        "BatchCreateGenerations",
        "GetGeneration",
        "ListGenerations",
        "ListAttempts",
        "CancelGeneration",
        "DeleteGeneration",
        "RetryGeneration",
        "SignImageUrls",
    ),
    "easel.v1.ModelService": ("ListModels", "GetModel"),
}

_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2.5,
    # A server that shuts down, or has too much to do, ends what it has not begun with CANCELLED.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}

_SERVICE_CONFIG = {
    # Every gateway that the target's name stands for gets its share; gRPC's default is to stay with the first.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method} for service, methods in REPEATABLE.items() for method in methods
            ],
            "retryPolicy": _RETRY_POLICY,
        }
    ],
}


def connect(target: str, *, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel to `host:port` or any other gRPC target; without credentials it is not encrypted."""
    options: list[tuple[str, str | int]] = [
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3000),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.enable_http_proxy", 0 if is_loopback(target) else 1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


@contextlib.contextmanager
def closing_is_no_cancellation() -> Iterator[None]:
    """Raise Unavailable where a call ends because its channel is closed: gRPC raises CancelledError for that, too.

    Raises:
        Unavailable: the channel was closed.
        asyncio.CancelledError: the current task is cancelled.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(CLOSED) from None


def is_loopback(target: str) -> bool:
    """Whether a `host:port` or a URL names this machine, which no proxy can reach."""
    host = urlsplit(target if "://" in target else f"//{target}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

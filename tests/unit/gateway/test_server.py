"""The options of the gRPC server, by real ones."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no stubs: it is gRPC itself

from easel.client import channel
from gateway.api.server import MIN_PING_INTERVAL_MS, OPTIONS

#: All is scaled down as far as gRPC pings: a client of ours does so every 30 s.
PING_SECONDS, SCALED_INTERVAL_MS = 1, 300
#: The fourth that comes too early ends the connection.
PINGS = 5


async def be_quiet(request: Any, context: Any) -> None:
    await context.send_initial_metadata(())
    await asyncio.sleep(PINGS * PING_SECONDS)


async def test_a_client_may_ping_on_a_stream_where_nothing_happens() -> None:
    assert MIN_PING_INTERVAL_MS < channel.KEEPALIVE_SECONDS * 1000
    scaled = {MIN_PING_INTERVAL_MS: SCALED_INTERVAL_MS}
    server = grpc.aio.server(options=[(name, scaled.get(value, value)) for name, value in OPTIONS])
    handler: Any = grpc.unary_stream_rpc_method_handler(be_quiet)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"BeQuiet": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.keepalive_time_ms", PING_SECONDS * 1000), ("grpc.http2.max_pings_without_data", 0)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as quiet:
            be_quiet_there: Any = quiet.unary_stream("/test/BeQuiet")
            assert [response async for response in be_quiet_there(b"")] == []
    finally:
        await server.stop(None)


@pytest.mark.parametrize("name", [name for name, _ in OPTIONS])
def test_grpc_knows_every_option(name: str) -> None:
    """It says nothing of those that it does not know."""
    assert name.encode() in Path(cygrpc.__file__).read_bytes()

"""Watching one generation over as many streams as it takes."""

import contextlib
import time
from asyncio import timeout
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

import grpc.aio

from easel.client import errors
from easel.client.channel import DEAD_CONNECTION_SECONDS, closing_is_no_cancellation
from easel.client.errors import EaselError, Unavailable
from easel.client.events import Event, Position
from easel.client.outage import Outage

#: How long a server may take to end a stream after its last message.
FAREWELL_SECONDS = 2.0

#: A stream of GenerateResponse or WatchGenerationResponse.
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"

#: Opens a stream that goes on from a position.
OpenStream: TypeAlias = Callable[[Position], Stream]


async def follow(open_stream: OpenStream, *, position: Position, outage: Outage) -> AsyncGenerator[Event, None]:
    """Yield what happens to a generation until its end, opening a new stream whenever one breaks.

    Raises:
        EaselError: the service refused, or stayed out of reach for longer than the outage has patience.
    """
    while not position.is_final:
        opened = time.monotonic()
        stream = open_stream(position)
        broken: EaselError = Unavailable("the stream ended before the generation did")
        try:
            with closing_is_no_cancellation():
                async for message in stream:
                    outage.over()
                    event = position.advance(message)
                    if event is None:
                        continue
                    outage.recovered()
                    if event.is_final:
                        await _hear_out(stream)
                    yield event
        except grpc.aio.AioRpcError as error:
            broken = errors.from_rpc(error)
            if not errors.is_break(error):
                raise broken from error
        finally:
            stream.cancel()
        if not position.is_final:
            if time.monotonic() - opened > DEAD_CONNECTION_SECONDS:
                outage.over()  # it was quiet, not dead: else keepalive would have ended it before
            await outage.pause(broken)


async def _hear_out(stream: Stream) -> None:
    """Read on to the end, so that the call counts as completed and not as cancelled in the server's books."""
    with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
        async with timeout(FAREWELL_SECONDS):
            async for _ in stream:
                pass

"""A way to an S3 server on which it can be busy, too."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from easel.embedded import Stack
from easel.embedded.ports import HOST
from tests.faults.proxy import Proxy

_BODY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Storefront(Proxy):
    """Passes requests on, or answers them with 503."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._busy = False
        #: How many requests were answered with 503.
        self.refused = 0

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.port}"

    async def has_refused(self, count: int) -> bool:
        """Whether so many requests were answered with 503."""
        return self.refused >= count

    async def has_lost(self, count: int) -> bool:
        """Whether so many answers were lost."""
        return self.lost_answers >= count

    def be_busy(self) -> None:
        """Answer 503, and nothing else."""
        self.cut()
        self._busy = self._connecting = True

    def mend(self) -> None:
        """Let everything pass again."""
        self._busy = False
        super().mend()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._busy:
            return await super()._on_connection(reader, writer)
        try:
            length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_BUSY)
            await writer.drain()
            self.refused += 1
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
        return None


@asynccontextmanager
async def storefront(stack: Stack) -> AsyncIterator[Storefront]:
    """Open one before the stack's S3 server."""
    front = Storefront(urlsplit(stack.servers.s3.endpoint).port or 0)
    await front.listen()
    try:
        yield front
    finally:
        await front.close()

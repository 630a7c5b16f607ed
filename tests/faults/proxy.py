"""A way to a server that can be cut, dammed up, or made to lose what the server answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from easel.embedded.ports import HOST

CHUNK_BYTES = 65_536


class Proxy:
    """Passes bytes on to a port, and says what comes of it."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answers_flowing = asyncio.Event()
        self._answers_flowing.set()
        self._connecting = True
        #: Whether what the server says is thrown away, and the connection with it.
        self.loses_answers = False
        #: How many answers were thrown away.
        self.lost_answers = 0
        #: What came since the dam was closed, and has not passed.
        self.held_back = b""
        self.port = 0

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._on_connection, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection, and every new one at once."""
        self._connecting = False
        for writer in self._writers:
            writer.transport.abort()

    def dam(self) -> None:
        """Hold back every byte in both directions; connections stay, and nobody is told."""
        self._flowing.clear()

    def dam_answers(self) -> None:
        """Hold back what the server says, and let pass what it is told."""
        self._answers_flowing.clear()

    async def holds(self, text: str) -> bool:
        """Whether something is in what is held back."""
        return text.encode() in self.held_back

    def mend(self) -> None:
        """Let everything pass again, also what was held back."""
        self._connecting, self.loses_answers, self.held_back = True, False, b""
        self._flowing.set()
        self._answers_flowing.set()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._connecting:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
        for source, sink, is_answer in ((reader, there_writer, False), (there_reader, writer, True)):
            self._writers.add(sink)
            task = asyncio.create_task(self._pump(source, sink, is_answer=is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        reading = asyncio.create_task(self._read(source, arrived))
        try:
            while data := await arrived.get():
                await self._flowing.wait()
                if is_answer:
                    await self._answers_flowing.wait()
                if is_answer and self.loses_answers:
                    self.lost_answers += 1
                    break
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            reading.cancel()
            self._writers.discard(sink)
            sink.transport.abort()

    async def _read(self, source: asyncio.StreamReader, arrived: asyncio.Queue[bytes]) -> None:
        """Take in what comes, also before a dam; nothing is the end of it."""
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                if not self._flowing.is_set():
                    self.held_back += data
                arrived.put_nowait(data)
        arrived.put_nowait(b"")


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a port of this machine."""
    proxy = Proxy(port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()

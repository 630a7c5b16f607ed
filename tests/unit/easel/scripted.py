"""A real gRPC server that does what a test's script says, break by break."""

import asyncio
import contextlib
import hashlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import Generation, GenerationState, Image, Phase, Progress
from easel.v1.generation_service_pb2_grpc import GenerationServiceServicer, add_GenerationServiceServicer_to_server
from easel.v1.model_service_pb2 import GetModelResponse, ListModelsResponse
from easel.v1.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server

ID = "01990000-0000-7000-8000-000000000001"

QUEUED = GenerationState.GENERATION_STATE_QUEUED
RUNNING = GenerationState.GENERATION_STATE_RUNNING
SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED
FAILED = GenerationState.GENERATION_STATE_FAILED

#: What one call does: yield messages, abort, wait.
Script = Callable[[grpc.aio.ServicerContext[Any, Any]], AsyncIterator[messages.GenerateResponse]]


def numbered(number: int) -> str:
    """Name the generation that a batch made as its so-manieth."""
    return f"{ID[:-3]}{number:03}"


def transition(state: GenerationState.ValueType, *, revision: int, attempts: int = 0, **fields: Any) -> Any:
    fields = {"id": ID, **fields}
    generation = Generation(state=state, revision=revision, attempt_count=attempts, **fields)
    return messages.GenerateResponse(resume_token=f"r{revision}", generation=generation)


def progress(step: int, *, attempt: int = 1, phase: Phase.ValueType = Phase.PHASE_DENOISING, **fields: Any) -> Any:
    made = Progress(attempt=attempt, phase=phase, step=step, steps=20, **fields)
    return messages.GenerateResponse(resume_token=f"a{attempt}s{step}", progress=made)


def preview(*, attempt: int = 1, step: int = 1, image_index: int = 0, data: bytes = b"preview") -> Any:
    made = messages.Preview(attempt=attempt, step=step, image_index=image_index, content_type="image/jpeg", data=data)
    return messages.GenerateResponse(resume_token=f"a{attempt}p{step}", preview=made)


def status(code: grpc.StatusCode, message: str, *details: Message) -> grpc.Status:
    """Make a status with google.rpc details, as the gateway sends it."""
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    result: grpc.Status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=packed))
    return result


def retry_info(seconds: float) -> Any:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(int(seconds * 1e9))
    return info


def error_info(reason: str, *, domain: str = "easel", **metadata: str) -> Any:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def bad_request(**violations: str) -> Any:
    request = error_details_pb2.BadRequest()
    for field, description in violations.items():
        request.field_violations.add(field=field.replace("__", "."), description=description)
    return request


def says(*sent: Any, then: grpc.Status | tuple[grpc.StatusCode, str] | None = None, hang: bool = False) -> Script:
    """Send messages, and then end with OK, with an error, or not at all."""

    async def script(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        for message in sent:
            yield message
        if hang:
            await asyncio.Event().wait()
        if isinstance(then, tuple):
            await context.abort(*then)
        elif then is not None:
            await context.abort_with_status(then)

    return script


class ScriptedServer(GenerationServiceServicer, ModelServiceServicer):
    """Plays its scripts call by call, or what `play` makes of a request; keeps all requests and how streams ended."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = deque(scripts)
        self.requests: list[Message] = []
        self.called = asyncio.Event()
        self.endings: list[str] = []
        self.ended = asyncio.Event()
        self.hang = False
        self.unary_errors: deque[grpc.Status] = deque()
        self.refusals: dict[str, grpc.Status] = {}
        self.generation = Generation(id=ID, state=SUCCEEDED, revision=3)
        self.signed: list[Image] = []
        self.pages = [messages.ListGenerationsResponse()]
        self.attempts = [messages.ListAttemptsResponse()]
        self.play: Callable[[Any], Script] | None = None
        self._numbers = itertools.count()
        self.models = ListModelsResponse()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_GenerationServiceServicer_to_server(self, server)
        add_ModelServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play(request, context):
            yield message

    async def WatchGeneration(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play(request, context):
            yield messages.WatchGenerationResponse.FromString(message.SerializeToString())

    async def _play(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.called.set()
        ending = "error"
        try:
            await self._refuse(request, context)
            script = self.play(request) if self.play else self.scripts.popleft()
            async for message in script(context):
                yield message
            ending = "ok"
        except (asyncio.CancelledError, GeneratorExit):  # as it waited, or as it sent
            ending = "cancelled"
            raise
        finally:
            self.endings.append(ending)
            self.ended.set()

    async def _refuse(self, request: Message, context: Any) -> None:
        """Refuse a call whose name, such as `GetGeneration`, has a refusal."""
        name = type(request).__name__.removesuffix("Request")
        if name in self.refusals:
            await context.abort_with_status(self.refusals[name])

    async def _unary(self, request: Message, context: Any, answer: Message) -> Any:
        self.requests.append(request)
        self.called.set()
        if self.hang:
            await asyncio.Event().wait()
        await self._refuse(request, context)
        if self.unary_errors:
            await context.abort_with_status(self.unary_errors.popleft())
        return answer

    async def CreateGeneration(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.CreateGenerationResponse(generation=self.generation))

    async def BatchCreateGenerations(self, request: Any, context: Any) -> Any:
        answer = messages.BatchCreateGenerationsResponse()
        for each in request.requests:
            answer.generations.add(id=numbered(next(self._numbers)), state=QUEUED, revision=1, resolved_spec=each.spec)
        return await self._unary(request, context, answer)

    async def ListGenerations(self, request: Any, context: Any) -> Any:
        page = self.pages[int(request.page_token or 0)]
        return await self._unary(request, context, page)

    async def ListAttempts(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, self.attempts[int(request.page_token or 0)])

    async def DeleteGeneration(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.DeleteGenerationResponse())

    async def RetryGeneration(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.RetryGenerationResponse(generation=self.generation))

    async def GetGeneration(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.GetGenerationResponse(generation=self.generation))

    async def CancelGeneration(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.CancelGenerationResponse(generation=self.generation))

    async def SignImageUrls(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, messages.SignImageUrlsResponse(images=self.signed))

    async def ListModels(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, self.models)

    async def GetModel(self, request: Any, context: Any) -> Any:
        return await self._unary(request, context, GetModelResponse(model=next(iter(self.models.models), None)))


class Relay:
    """Forwards TCP connections to a port, until it cuts them off without a word to either side."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut off every connection there is; new ones are forwarded again."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, there_writer}
        self._run(_pump(reader, there_writer))
        self._run(_pump(there_reader, writer))

    def _run(self, pump: Awaitable[None]) -> None:
        task = asyncio.ensure_future(pump)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the file server answers: a status and a body, perhaps less of it than it promises."""

    body: bytes = b""
    status: str = "200 OK"
    promised_bytes: int | None = None


class FileServer:
    """A real HTTP server that gives its answers one by one, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = deque(answers)
        self.paths: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def url(self, path: str = "0.png") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client may have been killed by its test, or want no more of it.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.paths.append(request.split()[1].decode())
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        length = len(answer.body) if answer.promised_bytes is None else answer.promised_bytes
        writer.write(f"HTTP/1.1 {answer.status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        writer.write(answer.body)
        await writer.drain()


def picture(body: bytes, *, url: str = "", index: int = 0) -> Image:
    """Describe a picture as the service does."""
    return Image(
        index=index,
        seed=7 + index,
        width=64,
        height=64,
        content_type="image/png",
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        url=url,
    )

"""What surrounds every call: who calls, what its log lines are about, how it is counted, what its errors look like."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from loguru import logger
from opentelemetry.trace import Span

from easel import tracing
from easel.logs import annotate
from gateway.api.statuses import to_status
from gateway.errors import Error, SlowReader
from gateway.metrics import Metrics
from gateway.turns import Turns

#: Whose call this is. Everybody's, until there is access control: it is set here and nowhere else.
owner: ContextVar[str] = ContextVar("owner", default="default")

#: Calls of these services are not ours to watch over.
_FOREIGN_SERVICES = ("/grpc.",)

#: How calls end badly through no fault of their client's.
_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNIMPLEMENTED,
}

#: A client whose deadline has passed says so by a cancel, which may come in just before the deadline does here.
DEADLINE_SLACK_SECONDS = 0.05

if TYPE_CHECKING:
    # These types take parameters in their stubs only.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
    Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives every call its log context and its turn, counts it, and makes statuses of its errors.

    It has to be the last interceptor: one behind it would be asked only once for each method.
    """

    def __init__(self, metrics: Metrics, *, turns: Mapping[str, Turns], write_timeout_seconds: float) -> None:
        """Take what calls need.

        Args:
            metrics: Where they are counted.
            turns: Which RPCs take turns, by their names.
            write_timeout_seconds: How long a response of a stream may take to be sent.
        """
        self._metrics = metrics
        self._turns = turns
        self._write_timeout_seconds = write_timeout_seconds
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: "Continuation", handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Wrap the handler of a call, once for each method."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None or method.startswith(_FOREIGN_SERVICES):
                return handler
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: "Handler") -> "Handler":
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(method, handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._wrap_unary(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrap_unary(self, method: str, behaviour: Any) -> Callable[[Any, "Context"], Awaitable[Any]]:
        meter = _Meter(self._metrics, method)
        turns = self._turns.get(method.rpartition("/")[2])

        async def call(request: Any, context: "Context") -> Any:
            _begin(method)
            with tracing.serve(method, _metadata_of(context)) as span, meter.measure(context, span):
                try:
                    async with turns.take(owner.get()) if turns else nullcontext():
                        return await behaviour(request, context)
                except Exception as error:  # noqa: BLE001
                    await _abort(context, error)

        return call

    def _wrap_stream(self, method: str, behaviour: Any) -> Any:
        meter = _Meter(self._metrics, method)

        async def call(request: Any, context: "Context") -> None:
            _begin(method)
            with tracing.serve(method, _metadata_of(context)) as span, meter.measure(context, span):
                # Before the first response, and not with it: no status can be sent while metadata is on its way.
                await context.send_initial_metadata(())
                try:
                    # All streams of ours are watchers.
                    with self._metrics.watchers.track_inprogress():
                        async with aclosing(behaviour(request, context)) as responses:
                            async for response in responses:
                                await self._write(context, response)
                except Exception as error:  # noqa: BLE001
                    await _abort(context, error)

        return call

    async def _write(self, context: "Context", response: Any) -> None:
        """Send a response, which takes as long as the client takes to make room for it.

        Raises:
            SlowReader: it took too long. The status comes to the client behind what it has not read yet.
        """
        try:
            async with asyncio.timeout(self._write_timeout_seconds):
                await context.write(response)
        except TimeoutError:
            raise SlowReader(timeout_seconds=self._write_timeout_seconds) from None


class _Meter:
    """Counts and times the calls of one method."""

    def __init__(self, metrics: Metrics, method: str) -> None:
        self._method = method.removeprefix("/")
        self._rpcs = metrics.rpcs
        self._seconds = metrics.rpc_seconds.labels(method=self._method)

    @contextmanager
    def measure(self, context: "Context", span: Span) -> Iterator[None]:
        """Count a call once it ends, however it does."""
        began = time.perf_counter()
        code = grpc.StatusCode.UNKNOWN
        try:
            yield
            code = grpc.StatusCode.OK
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # We have ended it, or else the client has: while we waited, or while something was on its way to it.
            code = context.code() or _why_cancelled(context)
            raise
        finally:
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code in _FAULTS:
                tracing.fail(span, code.name)
            self._rpcs.labels(method=self._method, code=code.name).inc()
            self._seconds.observe(time.perf_counter() - began)


def _metadata_of(context: "Context") -> Mapping[str, str]:
    """Read what a client sent along, as far as it is text."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _why_cancelled(context: "Context") -> grpc.StatusCode:
    remaining_seconds = context.time_remaining()
    if remaining_seconds is not None and remaining_seconds < DEADLINE_SLACK_SECONDS:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _begin(method: str) -> None:
    annotate(request_id=uuid.uuid4().hex[:12])
    logger.debug("call", action="call", method=method)


async def _abort(context: "Context", error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.BaseError):
        raise error  # it has ended already
    status = to_status(error)
    if isinstance(error, Error):
        logger.info("refused: {}", type(error).__name__, action="refuse", code=status.code.name)
    else:
        logger.opt(exception=error).error("a defect ended a call", action="defect")
    await context.abort_with_status(status)

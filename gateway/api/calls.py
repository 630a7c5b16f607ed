"""What surrounds every call: who calls, what its log lines are about, and what its errors look like."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from loguru import logger

from easel.logs import annotate
from gateway.api.statuses import to_status
from gateway.errors import Error

#: Whose call this is. Everybody's, until there is access control: it is set here and nowhere else.
owner: ContextVar[str] = ContextVar("owner", default="default")

#: Calls of these services are not ours to watch over.
_FOREIGN_SERVICES = ("/grpc.",)

if TYPE_CHECKING:
    # These types take parameters in their stubs only.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
    Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives every call its log context and turns its errors into statuses."""

    async def intercept_service(
        self, continuation: "Continuation", handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_FOREIGN_SERVICES):
            return handler
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _wrap_stream(method, handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _wrap_unary(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _wrap_unary(method: str, behaviour: Any) -> Callable[[Any, "Context"], Awaitable[Any]]:
    async def call(request: Any, context: "Context") -> Any:
        _begin(method)
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001
            await _abort(context, error)

    return call


def _wrap_stream(method: str, behaviour: Any) -> Any:
    async def call(request: Any, context: "Context") -> AsyncGenerator[Any, None]:
        _begin(method)
        try:
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001
            await _abort(context, error)

    return call


def _begin(method: str) -> None:
    annotate(request_id=uuid.uuid4().hex[:12])
    logger.debug("call", action="call", method=method)


async def _abort(context: "Context", error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = to_status(error)
    if isinstance(error, Error):
        logger.info("refused: {}", type(error).__name__, action="refuse", code=status.code.name)
    else:
        logger.opt(exception=error).error("a defect ended a call", action="defect")
    await context.abort_with_status(status)

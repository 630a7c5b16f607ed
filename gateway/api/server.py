"""The gRPC server: options, health, reflection, and its shutdown."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from easel.v1 import generation_service_pb2, model_service_pb2
from easel.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from easel.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from gateway.api.calls import CallInterceptor
from gateway.api.generation_service import GenerationService
from gateway.api.model_service import ModelService
from gateway.hub import Hub
from gateway.metrics import Metrics
from gateway.turns import Turns

MAX_REQUEST_BYTES = 1024 * 1024
#: Pings of clients that we put up with, whether they have calls or not; a client should ping every 20 s or less often.
MIN_PING_INTERVAL_MS = 10_000
#: After so long a connection is closed in peace, so that clients spread over new replicas.
MAX_CONNECTION_AGE_MS = 30 * 60_000
#: How long calls on such a connection may take to end.
MAX_CONNECTION_AGE_GRACE_MS = 10 * 60_000
#: A restart of a gateway makes thousands of watchers call at once; the default cancels them.
MAX_PENDING_REQUESTS = 100_000

OPTIONS = (
    # Otherwise a second server would silently share the port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", MAX_CONNECTION_AGE_GRACE_MS),
    ("grpc.server.max_pending_requests", MAX_PENDING_REQUESTS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_REQUESTS),
)

_DESCRIPTORS = (
    generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
)
SERVICES = tuple(service.full_name for service in _DESCRIPTORS)


class _Health(health.aio.HealthServicer):
    """The health service, whose watches end when the server stops; grpcio's own would hold it up."""

    def __init__(self) -> None:
        super().__init__()
        self._stopping = asyncio.Event()

    async def Watch(  # noqa: N802  # the name of the RPC
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """Tell of changes until the server stops."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            stopping.cancel()

    def end_watches(self) -> None:
        """End all watches, present and to come."""
        self._stopping.set()


class Server:
    """The gRPC server of a gateway."""

    def __init__(
        self,
        generation_service: GenerationService,
        model_service: ModelService,
        *,
        listen: str,
        with_reflection: bool,
        turns: Mapping[str, Turns],
        write_timeout_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._listen = listen
        for service in _DESCRIPTORS:
            for method in service.methods:
                metrics.show_method(f"{service.full_name}/{method.name}")
        calls = CallInterceptor(metrics, turns=turns, write_timeout_seconds=write_timeout_seconds)
        self._server = grpc.aio.server(interceptors=[calls], options=OPTIONS)
        self._health = _Health()
        self._healthy: bool | None = None
        add_GenerationServiceServicer_to_server(generation_service, self._server)
        add_ModelServiceServicer_to_server(model_service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listen, not yet healthy, and return the port.

        Raises:
            OSError: the address is taken or not ours.
        """
        await self.set_healthy(healthy=False)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}: {error}") from error
        await self._server.start()
        return port

    async def set_healthy(self, *, healthy: bool) -> None:
        """Say on grpc.health.v1 whether calls are welcome."""
        if healthy is self._healthy:
            return
        self._healthy = healthy
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop(self, hub: Hub, *, notice_seconds: float, grace_seconds: float) -> None:
        """Shut down so that no client is surprised.

        The order: say that we go, so that balancers turn away; give them a moment; end the streams with UNAVAILABLE and
        RetryInfo; let the other calls finish within the grace.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(notice_seconds)
        hub.close()
        self._health.end_watches()
        await self._server.stop(grace_seconds)

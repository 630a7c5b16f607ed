"""Telemetry: what a service counts, on a registry of its own, and the HTTP endpoint where Prometheus reads it."""

from threading import Thread
from wsgiref.simple_server import WSGIServer

from loguru import logger
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from easel import __version__
from easel.settings import Misconfigured, split_address


class Telemetry:
    """The registry on which a service's instruments are made, and its endpoint while it listens."""

    def __init__(self, *, service: str) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        build = Info("easel_build", "Which service this is, and its version.", registry=self.registry)
        build.info({"service": service, "version": __version__})
        self._endpoint: tuple[WSGIServer, Thread] | None = None

    def listen(self, address: str) -> int:
        """Answer at http://ADDRESS/metrics, in threads of its own, until closed; not at all if the address is empty.

        Returns:
            The port, or 0 without one.

        Raises:
            Misconfigured: the address is taken or not ours.
        """
        if not address:
            return 0
        host, port = split_address(address)
        try:
            self._endpoint = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Misconfigured("metrics_listen", f"cannot listen on {address}: {error.strerror or error}") from error
        port = self._endpoint[0].server_port
        logger.info("metrics on port {}", port, action="listen_metrics")
        return port

    def close(self) -> None:
        """Stop listening, which takes up to half a second; harmless when it does not listen."""
        if self._endpoint is None:
            return
        server, thread = self._endpoint
        self._endpoint = None
        server.shutdown()
        server.server_close()
        thread.join()

"""Telemetry: what a service counts, on a registry of its own, and the HTTP endpoint where it is read.

Where `PROMETHEUS_MULTIPROC_DIR` is set, all processes that share that folder share one endpoint: whichever answers
shows the sum of all.
"""

import asyncio
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from loguru import logger
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
    multiprocess,
)

from easel import __version__
from easel.health import Health, Verdict
from easel.settings import Misconfigured, split_address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: prometheus_client's own; it is read when that is imported.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SAMPLE_SECONDS = 0.5

_FILE_OF_LIVING = re.compile(r"gauge_live.*_(\d+)\.db")


class Telemetry:
    """The registry on which a service's instruments are made, its health, and the endpoint of both while it listens."""

    def __init__(self, *, service: str) -> None:
        self.registry = CollectorRegistry()
        self.health = Health()
        self._folder = _shared_folder()
        if self._folder is None:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self.registry)
        build = Gauge(
            "easel_build_info",
            "Which service this is, and its version.",
            ["service", "version"],
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        build.labels(service=service, version=__version__).set(1)
        processes = Gauge(
            "easel_processes",
            "Processes behind this endpoint.",
            ["service"],
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        processes.labels(service=service).set(1)
        ready = Gauge(
            "easel_ready",
            "Processes behind this endpoint that can be given work, as /readyz says.",
            ["service"],
            multiprocess_mode="livesum",
            registry=self.registry,
        ).labels(service=service)
        self._sampled: list[tuple[Gauge, Callable[[], float]]] = []
        self.sample(ready, lambda: float(self.health.readiness().good))
        self._endpoint: tuple[WSGIServer, Thread] | None = None

    def sample(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Have a gauge show a value as it is, or was a moment ago.

        Not by the gauge's own `set_function`, which says nothing to the other processes of a shared endpoint.
        """
        self._sampled.append((gauge, read))

    async def run(self) -> None:
        """Sample, and show that the event loop turns, for ever."""
        while True:
            self.health.event_loop.note()
            for gauge, read in self._sampled:
                try:
                    gauge.set(read())
                except Exception:  # noqa: BLE001  # the event loop still turns, which is what the rest lives by
                    logger.exception("a gauge cannot be read", action="defect")
            await asyncio.sleep(SAMPLE_SECONDS)

    def listen(self, address: str) -> int:
        """Answer at http://ADDRESS/metrics, /livez and /readyz, in threads of its own, until closed.

        Nothing is answered if the address is empty.

        Returns:
            The port, or 0 without one.

        Raises:
            Misconfigured: the address is taken or not ours.
        """
        if not address:
            return 0
        host, port = split_address(address)
        try:
            server = _make_server(host, port, shared=self._folder is not None)
        except OSError as error:
            raise Misconfigured("metrics_listen", f"cannot listen on {address}: {error.strerror or error}") from error
        server.set_app(_Endpoint(self._shown_registry(), self.health, self._folder))
        thread = Thread(target=server.serve_forever, name="telemetry", daemon=True)
        thread.start()
        self._endpoint = (server, thread)
        logger.info("metrics on port {}", server.server_port, action="listen_metrics")
        return server.server_port

    def close(self) -> None:
        """Stop listening, which takes up to half a second; harmless when it does not listen."""
        if self._folder is not None:
            multiprocess.mark_process_dead(os.getpid(), str(self._folder))  # type: ignore[no-untyped-call]
        if self._endpoint is None:
            return
        server, thread = self._endpoint
        self._endpoint = None
        server.shutdown()
        server.server_close()
        thread.join()

    def _shown_registry(self) -> CollectorRegistry:
        if self._folder is None:
            return self.registry
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return registry


class _Endpoint:
    """Answers those who ask over HTTP."""

    def __init__(self, registry: CollectorRegistry, health: Health, folder: Path | None) -> None:
        self._metrics = make_wsgi_app(registry)
        self._health = health
        self._folder = folder

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                if self._folder is not None:
                    _bury_the_dead(self._folder)
                shown: Iterable[bytes] = self._metrics(environ, start_response)
                return shown
            case "/livez":
                return _tell(self._health.liveness(), start_response)
            case "/readyz":
                return _tell(self._health.readiness(), start_response)
        return _answer(HTTPStatus.NOT_FOUND, "there are /metrics, /livez and /readyz\n", start_response)


def _tell(verdict: Verdict, start_response: "StartResponse") -> Sequence[bytes]:
    status = HTTPStatus.OK if verdict.good else HTTPStatus.SERVICE_UNAVAILABLE
    return _answer(status, str(verdict), start_response)


def _answer(status: HTTPStatus, text: str, start_response: "StartResponse") -> Sequence[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that it has there
        """Probes and scrapes are no news."""


def _make_server(host: str, port: int, *, shared: bool) -> WSGIServer:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    class Server(_Server):
        address_family = family
        # Each process of a shared endpoint listens on it, and any of them answers.
        allow_reuse_port = shared

    return Server(address[:2], _QuietHandler)  # type: ignore[arg-type]  # an address of the Internet has a name first


def _shared_folder() -> Path | None:
    if SHARED_FOLDER not in os.environ:
        return None
    folder = Path(os.environ[SHARED_FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def empty_shared_folder() -> None:
    """Forget what processes of earlier days have counted; for whoever starts all that share the folder."""
    folder = _shared_folder()
    if folder is not None:
        for file in folder.glob("*.db"):
            file.unlink(missing_ok=True)


def _bury_the_dead(folder: Path) -> None:
    """Forget what processes showed that ended without a word; what they counted stays."""
    found = {int(match[1]) for file in folder.iterdir() if (match := _FILE_OF_LIVING.fullmatch(file.name))}
    for pid in found:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another process of the endpoint was faster
                multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue

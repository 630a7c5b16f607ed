"""Errors as Sentry would get them, from a process that has some."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from easel import __version__
from easel.client import Client, GenerationSpec
from easel.embedded import Stack
from tests import scripted
from tests.integration.calls import until

#: A word of no language, that must not get around.
MARKER = "xqzvwkj"

#: Has an error in a call of a model, one of its own, and one without an exception; each about a generation.
FAILING = f"""
from loguru import logger
from easel import logs
from easel.settings import Settings

settings = Settings(_env_file=None)
settings.configure_logs(service="worker")
close = settings.start_exporters(service="worker")
logs.annotate(generation_id="0198-g", attempt=2)

def draw(prompt):
    raise ValueError(f"cannot draw {{prompt}}")

try:
    draw("{MARKER}")
except ValueError as error:
    logger.opt(exception=logs.without_message(error)).error("the model failed", action="attempt_failed")
    logger.exception("a defect ended the attempt", action="defect")
logger.error("could not connect", action="failed")
logger.warning("this is no error")
close()
"""


class Receiver(ThreadingHTTPServer):
    """Takes envelopes, as Sentry does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.raw = b""
        self.events: list[dict[str, Any]] = []

    def take(self, envelope: bytes) -> None:
        self.raw += envelope
        lines = envelope.split(b"\n")
        self.events += [json.loads(line) for line in lines if line.startswith(b'{"') and b'"event_id"' in line][1:]

    async def has_some(self) -> bool:
        return bool(self.events)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that it has there
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver
        receiver.shutdown()


def test_errors_are_reported_with_what_they_are_about_and_without_what_was_asked_for(receiver: Receiver) -> None:
    environment = {
        **os.environ,
        "EASEL_SENTRY_DSN": f"http://key@127.0.0.1:{receiver.server_port}/1",
        "EASEL_SENTRY_ENVIRONMENT": "staging",
    }
    subprocess.run([sys.executable, "-c", FAILING], check=True, env=environment, capture_output=True)

    assert len(receiver.events) == 3
    assert MARKER.encode() not in receiver.raw
    for event in receiver.events:
        assert (event["release"], event["environment"]) == (f"easel@{__version__}", "staging")
        assert (event["tags"]["service"], event["tags"]["generation_id"]) == ("worker", "0198-g")
    redacted, plain, message = receiver.events
    (exception,) = redacted["exception"]["values"]
    assert exception["value"] == "ValueError (the client got its message)"
    (exception,) = plain["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "")
    assert [frame["function"] for frame in exception["stacktrace"]["frames"]][-1] == "draw"
    assert not any("vars" in frame for frame in exception["stacktrace"]["frames"])
    assert message["message"] == "could not connect"


async def test_a_failure_of_the_model_is_reported_by_its_worker(receiver: Receiver, tmp_path: Path) -> None:
    environment = {"EASEL_SENTRY_DSN": f"http://key@127.0.0.1:{receiver.server_port}/1", **scripted.ENVIRONMENT}
    async with (
        Stack(tmp_path, worker_module="tests.scripted", model="scripted", environment=environment) as stack,
        Client(stack.target) as client,
    ):
        created = await client.create(GenerationSpec(model="scripted", prompt=f"fail=model_error {MARKER}", steps=2))
        async for _ in client.watch(created.id):
            pass
        await until(receiver.has_some)

    event = receiver.events[0]
    assert (event["tags"]["service"], event["tags"]["generation_id"]) == ("worker", created.id)
    (exception,) = event["exception"]["values"]
    assert exception["value"] == "RuntimeError (the client got its message)"
    assert [frame["function"] for frame in exception["stacktrace"]["frames"]][-1] == "_have_the_accident"
    assert MARKER.encode() not in receiver.raw


def test_a_dsn_that_is_none_ends_a_process_with_one_line(receiver: Receiver) -> None:
    environment = {**os.environ, "EASEL_SENTRY_DSN": "nonsense", "EASEL_DATABASE_URL": "postgresql://a/b"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gateway"], check=False, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("EASEL_SENTRY_DSN: it is no DSN")
    assert len(done.stderr.splitlines()) == 1
    assert receiver.events == []

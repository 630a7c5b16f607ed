"""What a container's healthcheck runs."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from easel import probe


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b"database: out of reach\n")

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_its_status_is_what_the_service_answers(host: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_METRICS_LISTEN", f"{host}:{port}")
    assert probe.main(["/readyz"]) == 0
    assert probe.main(["/livez"]) == 1


def test_what_is_missing_is_passed_on(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EASEL_METRICS_LISTEN", f"127.0.0.1:{port}")
    probe.main(["/livez"])
    assert capsys.readouterr().out == "503 Service Unavailable\ndatabase: out of reach\n"


def test_nobody_there(port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EASEL_METRICS_LISTEN", "127.0.0.1:1")
    assert probe.main(["/readyz"]) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "arguments"),
    [("", ["/readyz"]), ("nonsense", ["/readyz"]), ("127.0.0.1:x", ["/"]), ("127.0.0.1:1", [])],
)
def test_nobody_to_ask(
    address: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EASEL_METRICS_LISTEN", address)
    assert probe.main(arguments) == 2
    assert "usage" in capsys.readouterr().err

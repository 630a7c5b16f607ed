"""A look at the bucket while its server hangs."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import bucket as module
from gateway.bucket import Bucket, StorageUnavailable


class HangingServer:
    """Says nothing until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def stat_object(self, *_: object) -> Any:
        self.released.wait()
        raise OSError("gone")


@pytest.fixture
def server() -> Iterator[HangingServer]:
    server = HangingServer()
    yield server
    server.released.set()


async def test_a_look_has_an_end(server: HangingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    bucket = Bucket(server, name="easel")
    with pytest.raises(StorageUnavailable):
        await bucket.find_missing([("results/0.png", 1)])
    bucket.close()

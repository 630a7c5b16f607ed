"""The endpoint of the metrics, over real HTTP."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from easel import __version__
from easel.settings import Misconfigured
from easel.telemetry import Telemetry


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry(service="gateway")
    yield telemetry
    telemetry.close()


def scrape(port: int) -> dict[str, float]:
    """Read the samples without labels, and those of the build, by name."""
    answer = httpx2.get(f"http://127.0.0.1:{port}/metrics")
    answer.raise_for_status()
    families = text_string_to_metric_families(answer.text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_command_line_does_not_import_it() -> None:
    ask = "import sys, easel.cli.main; print({'prometheus_client', 'easel.telemetry'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_what_is_counted_can_be_read(telemetry: Telemetry) -> None:
    counter = Counter("easel_pictures", "Pictures.", registry=telemetry.registry)
    port = telemetry.listen("127.0.0.1:0")
    counter.inc(3)
    samples = scrape(port)
    assert samples["easel_pictures_total"] == 3
    assert samples["process_resident_memory_bytes"] > 0
    labels = {"service": "gateway", "version": __version__}
    assert telemetry.registry.get_sample_value("easel_build_info", labels) == 1


def test_two_in_one_process_share_nothing(telemetry: Telemetry) -> None:
    other = Telemetry(service="worker")
    Counter("easel_pictures", "Pictures.", registry=other.registry)
    assert "easel_pictures_total" not in scrape(telemetry.listen("127.0.0.1:0"))


def test_nothing_listens_without_an_address(telemetry: Telemetry) -> None:
    assert telemetry.listen("") == 0
    telemetry.close()


def test_it_listens_on_ipv6_too(telemetry: Telemetry) -> None:
    port = telemetry.listen("[::1]:0")
    assert httpx2.get(f"http://[::1]:{port}/metrics").is_success


def test_once_closed_it_answers_no_more(telemetry: Telemetry) -> None:
    port = telemetry.listen("127.0.0.1:0")
    assert scrape(port)
    telemetry.close()
    with pytest.raises(httpx2.ConnectError):
        scrape(port)


def test_a_port_that_is_taken_is_named_with_its_setting(telemetry: Telemetry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Misconfigured) as refused:
            telemetry.listen(address)
    assert str(refused.value) == f"EASEL_METRICS_LISTEN: cannot listen on {address}: Address already in use"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_named_with_its_setting(telemetry: Telemetry, host: str) -> None:
    with pytest.raises(Misconfigured, match=f"EASEL_METRICS_LISTEN: cannot listen on {host}:0: "):
        telemetry.listen(f"{host}:0")


def test_probes_are_answered_beside_the_metrics(telemetry: Telemetry) -> None:
    url = f"http://127.0.0.1:{telemetry.listen('127.0.0.1:0')}"
    telemetry.health.require_to_be_ready("database", lambda: "not yet")
    not_alive = httpx2.get(f"{url}/livez")
    assert (not_alive.status_code, not_alive.text) == (503, "no event loop: not yet\n")
    telemetry.health.event_loop.note()
    alive, ready = httpx2.get(f"{url}/livez"), httpx2.get(f"{url}/readyz")
    assert (alive.status_code, alive.text) == (200, "ok event loop: ok\n")
    assert (ready.status_code, ready.text) == (503, "no database: not yet\n")
    assert httpx2.get(f"{url}/elsewhere").status_code == 404


async def test_gauges_show_what_is_and_the_event_loop_is_seen_to_turn(telemetry: Telemetry) -> None:
    slots = Gauge("easel_slots", "Slots.", registry=telemetry.registry)
    telemetry.sample(slots, lambda: 7)
    running = asyncio.create_task(telemetry.run())
    async with asyncio.timeout(5):
        while telemetry.registry.get_sample_value("easel_slots") != 7:  # noqa: ASYNC110  # on another turn of the loop
            await asyncio.sleep(0)
    running.cancel()
    assert telemetry.health.liveness().good


#: A process of a service that shares its endpoint: counts, shows itself, and waits.
SHARING = """
import sys
from prometheus_client import Counter, Gauge, Histogram
from easel.telemetry import Telemetry
telemetry = Telemetry(service="worker")
Counter("easel_pictures", "Pictures.", registry=telemetry.registry).inc(int(sys.argv[2]))
Histogram("easel_seconds", "Seconds.", registry=telemetry.registry).observe(1)
Gauge("easel_slots", "Slots.", multiprocess_mode="livesum", registry=telemetry.registry).set(4)
telemetry.listen(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
telemetry.close()
"""


class Sharers:
    """Processes of one service behind one endpoint."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder / "not" / "yet")}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self, pictures: int) -> "subprocess.Popen[str]":
        process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", SHARING, f"127.0.0.1:{self.port}", str(pictures)],
                env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def scrape(self) -> Mapping[str, float]:
        return scrape(self.port)


@pytest.fixture
def sharers(tmp_path: Path) -> Iterator[Sharers]:
    with ExitStack() as stack:
        yield Sharers(stack, tmp_path)


def test_processes_that_share_a_folder_share_an_endpoint(sharers: Sharers) -> None:
    sharers.start(2)
    sharers.start(3)
    # Whichever of them is asked.
    for _ in range(20):
        found = sharers.scrape()
        assert (found["easel_pictures_total"], found["easel_seconds_count"], found["easel_slots"]) == (5, 2, 8)
        assert found["easel_build_info"] == 1


@pytest.mark.parametrize("ending", ["killed", "in order"])
def test_what_a_process_counted_stays_when_it_ends_and_what_it_showed_does_not(sharers: Sharers, ending: str) -> None:
    sharers.start(2)
    other = sharers.start(3)
    if ending == "killed":
        other.send_signal(signal.SIGKILL)
        other.wait()
    else:
        other.communicate("")
        assert other.returncode == 0
    found = sharers.scrape()
    assert (found["easel_pictures_total"], found["easel_slots"]) == (5, 4)

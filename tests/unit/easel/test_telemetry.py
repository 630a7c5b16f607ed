"""The endpoint of the metrics, over real HTTP."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from prometheus_client import Counter
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

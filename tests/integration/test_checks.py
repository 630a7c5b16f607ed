"""What `easel doctor` finds out about real servers."""

import socket
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from easel import checks
from easel.bus import Bus
from easel.checks import check_exporters, check_nats, check_storage
from easel.embedded import Servers
from easel.finding import Finding, Verdict
from easel.settings import Settings
from gateway import check as gateway_check
from gateway.settings import GatewaySettings
from gateway.topology import Topology
from inference import check as worker_check

#: Nobody listens on the first port.
DEAD = "127.0.0.1:1"


def settings(servers: Servers, **given: Any) -> GatewaySettings:
    found = {name.removeprefix("EASEL_").lower(): value for name, value in servers.environment(user="gateway").items()}
    return GatewaySettings(_env_file=None, **found | given)


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


async def test_a_gateway_that_has_all_it_needs(servers: Servers, record_url: str) -> None:
    found = await gateway_check.check(settings(servers, database_url=record_url))
    assert list(verdicts(found)) == ["PostgreSQL", "schema", "NATS", "JetStream", "S3", "signed URLs", "clock"]
    assert all(finding.verdict in (Verdict.OK, Verdict.WARN) for finding in found), found


async def test_streams_that_are_missing_and_those_that_are_there(servers: Servers) -> None:
    bus = Bus()
    await bus.connect(servers.nats.url("gateway"), name="test")
    for stream in await bus.jetstream.streams_info():
        await bus.jetstream.delete_stream(str(stream.config.name))
    nats, jetstream = await check_nats(settings(servers), with_streams=True)
    assert (nats.verdict, jetstream.verdict) == (Verdict.OK, Verdict.WARN)
    assert "EASEL_TASKS" in jetstream.found
    await Topology(bus, NoModels(), replicas=1, result_ack_wait_seconds=10).ensure()  # type: ignore[arg-type]
    _, jetstream = await check_nats(settings(servers), with_streams=True)
    assert jetstream.verdict is Verdict.OK
    await bus.close()


class NoModels:
    """A catalogue without models."""

    models: tuple[()] = ()


@pytest.mark.parametrize(
    ("url", "why"),
    [(f"nats://{DEAD}", "nobody listens there"), ("nats://gateway:wrong@{place}", "Authorization Violation")],
    ids=["dead", "wrong password"],
)
async def test_nats_that_lets_nobody_in(servers: Servers, url: str, why: str) -> None:
    wrong = settings(servers, nats_url=url.format(place=servers.nats.place))
    [found] = await check_nats(wrong, with_streams=True)
    assert found.verdict is Verdict.FAIL
    assert why in found.found
    assert "wrong@" not in found.found
    assert "EASEL_NATS_URL" in found.hint


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"s3_endpoint": f"http://{DEAD}"}, {"S3": Verdict.FAIL}),
        ({"s3_access_key": "wrong"}, {"S3": Verdict.FAIL}),
        ({"s3_bucket": "nowhere"}, {"S3": Verdict.WARN}),
        (
            {"s3_public_endpoint": f"http://{DEAD}"},
            {"S3": Verdict.OK, "public endpoint": Verdict.WARN, "signed URLs": Verdict.OK, "clock": Verdict.OK},
        ),
        ({}, {"S3": Verdict.OK, "signed URLs": Verdict.OK, "clock": Verdict.OK}),
    ],
    ids=["dead", "wrong key", "no bucket", "a public endpoint out of reach", "as it should be"],
)
async def test_storage(servers: Servers, given: dict[str, str], expected: dict[str, Verdict]) -> None:
    found = await check_storage(settings(servers, **given))
    assert verdicts(found) == expected, found
    assert all(bool(finding.hint) == (finding.verdict is not Verdict.OK) for finding in found)


async def test_where_traces_and_errors_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        place = f"127.0.0.1:{there.getsockname()[1]}"
        sent = Settings(traces_endpoint=f"http://{place}", sentry_dsn=SecretStr(f"http://key@{DEAD}/1"))
        traces, errors = await check_exporters(sent)
        assert (traces.verdict, traces.found) == (Verdict.OK, f"{place} answers")
        assert (errors.verdict, errors.found) == (Verdict.WARN, f"{DEAD}: nobody listens there")
        monkeypatch.setattr(checks, "is_there", lambda _: False)
        assert {finding.verdict for finding in await check_exporters(sent)} == {Verdict.FAIL}
    assert await check_exporters(Settings()) == []
    assert not checks.is_there("there_is.no_such_module")


async def test_a_database_without_our_schema(servers: Servers) -> None:
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = f"{servers.postgres.url.rpartition('/')[0]}/{name}"
    answers, schema = gateway_check.check_database(settings(servers, database_url=url))
    assert (answers.verdict, schema.verdict) == (Verdict.OK, Verdict.FAIL)
    assert "easel migrate" in schema.hint


@pytest.mark.parametrize("url", [f"postgresql://{DEAD}/x", "postgresql://nobody:wrong@{place}/x"])
def test_a_database_that_lets_nobody_in(servers: Servers, url: str) -> None:
    wrong = settings(servers, database_url=url.format(place=servers.postgres.place))
    [found] = gateway_check.check_database(wrong)
    assert found.verdict is Verdict.FAIL
    assert "wrong" not in found.found
    assert "EASEL_DATABASE_URL" in found.hint


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert worker_check.check_model(str(tmp_path)).verdict is Verdict.FAIL
    assert worker_check.check_model(str(tmp_path / "nowhere")).verdict is Verdict.FAIL
    assert worker_check.check_model("org/name").verdict is Verdict.OK


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert worker_check.check_devices("auto").verdict is Verdict.WARN
    found = worker_check.check_devices("cuda")
    assert found.verdict is Verdict.FAIL
    assert "EASEL_DEVICE=cuda" in found.hint

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx2
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from minio import Minio
from pydantic import SecretStr
from rich.console import Console

from easel import checks
from easel.cli import doctor
from easel.finding import Finding, Verdict
from easel.settings import Settings
from easel.v1.model_pb2 import Model
from easel.v1.model_service_pb2 import ListModelsResponse
from easel.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from tests.unit.easel.command_line import easel
from tests.unit.easel.scripted import ScriptedServer, error_info, status

#: Nobody listens on the first port.
DEAD = "127.0.0.1:1"


class Gateway:
    """A gateway as far as a doctor looks at it."""

    def __init__(self, server: grpc.aio.Server, script: ScriptedServer, servicer: health.HealthServicer) -> None:
        self.script = script
        self.health = servicer
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    script, servicer = ScriptedServer(), health.HealthServicer()
    add_ModelServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    made = Gateway(server, script, servicer)
    await server.start()
    yield made
    await server.stop(None)


async def test_a_service_that_serves(gateway: Gateway) -> None:
    found = await doctor.check_health(gateway.target)
    assert (found.verdict, found.found) == (Verdict.OK, f"{gateway.target} serves")


async def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = f"127.0.0.1:{mute.getsockname()[1]}"
        [found] = await checks.check_nats(Settings(nats_url=SecretStr(f"nats://{place}")), with_streams=False)
    assert (found.verdict, found.found) == (Verdict.FAIL, f"{place}: no answer within 0.05 s")


def storage(setting: str, endpoint: str) -> Settings:
    given: Any = {setting: endpoint}
    return Settings(**given)


def about(place: str, findings: Iterable[Finding]) -> Finding:
    return next(finding for finding in findings if place in finding.found)


@pytest.mark.parametrize("setting", ["s3_endpoint", "s3_public_endpoint"])
def test_storage_that_says_nothing(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setattr(checks, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(Minio, "bucket_exists", Minio.bucket_exists if setting == "s3_endpoint" else lambda *_: True)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        found = about(endpoint, checks.judge_storage(storage(setting, endpoint)))
    assert found.verdict is (Verdict.FAIL if setting == "s3_endpoint" else Verdict.WARN)
    assert found.found.endswith(f"{endpoint}: no answer within 0.05 s")


@pytest.mark.parametrize("setting", ["s3_endpoint", "s3_public_endpoint"])
def test_storage_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setattr(Minio, "bucket_exists", Minio.bucket_exists if setting == "s3_endpoint" else lambda *_: True)
    found = about(DEAD, checks.judge_storage(storage(setting, f"http://{DEAD}")))
    assert found.verdict is (Verdict.FAIL if setting == "s3_endpoint" else Verdict.WARN)
    assert found.found.endswith(f"http://{DEAD}: nobody listens there")


async def test_a_service_that_says_nothing(monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> None:
    monkeypatch.setattr(doctor, "ANSWER_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = f"127.0.0.1:{mute.getsockname()[1]}"
        found = await doctor.check_health(place)
    assert (found.verdict, found.found) == (Verdict.FAIL, f"{place}: no answer within 0.2 s")
    gateway.script.hang = True
    [found] = await doctor.check_models(gateway.target)
    assert (found.verdict, found.found) == (Verdict.FAIL, "no answer within 0.2 s")


async def test_a_service_that_waits(gateway: Gateway) -> None:
    await gateway.health.set("", HealthCheckResponse.NOT_SERVING)
    found = await doctor.check_health(gateway.target)
    assert (found.verdict, found.found) == (Verdict.FAIL, f"{gateway.target} does not serve")
    assert "log" in found.hint


async def test_nobody_there() -> None:
    found = await doctor.check_health(DEAD)
    assert found.verdict is Verdict.FAIL
    assert found.found == f"{DEAD}: nobody listens there"
    assert "easel up" in found.hint


async def test_something_else_there(server: ScriptedServer) -> None:
    assert (await doctor.check_health(server.target)).verdict is Verdict.FAIL


async def test_models_and_their_workers(gateway: Gateway) -> None:
    known = [Model(name="a", live_workers=1), Model(name="b", live_workers=2), Model(name="c")]
    gateway.script.models = ListModelsResponse(models=known)
    found = await doctor.check_models(gateway.target)
    assert [(each.check, each.verdict, each.found) for each in found] == [
        ("model a", Verdict.OK, "1 live worker"),
        ("model b", Verdict.OK, "2 live workers"),
        ("model c", Verdict.WARN, "no live worker"),
    ]


async def test_no_models(gateway: Gateway) -> None:
    [found] = await doctor.check_models(gateway.target)
    assert (found.verdict, found.found) == (Verdict.WARN, "none is known yet")


async def test_a_service_that_breaks(gateway: Gateway) -> None:
    broken = status(grpc.StatusCode.INTERNAL, "internal error", error_info("ERROR_REASON_INTERNAL"))
    gateway.script.refusals["ListModels"] = broken
    [found] = await doctor.check_models(gateway.target)
    assert (found.verdict, found.found) == (Verdict.FAIL, "internal error")


def test_what_is_not_installed_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_extra("show").verdict is Verdict.OK
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = doctor.check_extra("gateway")
    assert found.verdict is Verdict.SKIP
    assert "pip install 'easel[gateway]'" in found.hint


def test_versions() -> None:
    assert "grpcio 1." in doctor.check_versions().found
    assert doctor.check_python().found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_the_table_says_what_to_do() -> None:
    console = Console(width=80, color_system=None)
    findings = [Finding("easel[gateway]", Verdict.OK, "installed"), Finding("S3", Verdict.FAIL, "away", "start it")]
    with console.capture() as drawn:
        console.print(doctor.table(findings))
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    assert lines == ["✔  easel[gateway]  installed", "✘  S3              away", "                   → start it"]


def test_findings_travel_as_json() -> None:
    finding = Finding("S3", Verdict.WARN, "no bucket", "make one")
    assert Finding.from_json(finding.to_json()) == finding
    with pytest.raises(ValueError, match="no finding"):
        Finding.from_json('{"check": "S3"}')


def unset(**given: str) -> dict[str, str]:
    return {"EASEL_DATABASE_URL": "", "EASEL_MODEL": "", **given}


async def test_a_machine_where_nothing_runs(tmp_path: Path) -> None:
    outcome = await easel("doctor", "--json", "--target", DEAD, folder=tmp_path, environment=unset())
    assert (outcome.status, outcome.stderr) == (1, "")
    findings = {finding.check: finding for finding in map(Finding.from_json, outcome.stdout.splitlines())}
    assert findings["service"].verdict is Verdict.FAIL
    assert findings["gateway: settings"].verdict is Verdict.SKIP
    assert findings["worker: settings"].verdict is Verdict.SKIP
    assert "torch" in findings["worker: devices"].found
    assert {"Python", "versions", "easel[gateway]", "easel[inference]", "easel[local]", "easel[show]"} <= set(findings)


async def test_beside_a_worker_nobody_looks_for_a_gateway_that_was_not_named(tmp_path: Path) -> None:
    here = unset(EASEL_MODEL="postcard", EASEL_NATS_URL=f"nats://{DEAD}", EASEL_S3_ENDPOINT=f"http://{DEAD}")
    outcome = await easel("doctor", "--json", folder=tmp_path, environment=here)
    findings = {finding.check: finding for finding in map(Finding.from_json, outcome.stdout.splitlines())}
    assert findings["service"].verdict is Verdict.SKIP
    assert findings["worker: NATS"].verdict is Verdict.FAIL


async def test_wrong_settings_are_told_one_by_one(tmp_path: Path) -> None:
    wrong = unset(EASEL_DATABASE_URL="mysql://x", EASEL_S3_ENDPOINT="nope", EASEL_MODEL="tiny", EASEL_SLOTS="none")
    outcome = await easel("doctor", "--target", DEAD, folder=tmp_path, environment=wrong)
    assert outcome.status == 1
    told = [" ".join(line.split()) for line in outcome.stdout.splitlines() if "settings" in line]
    assert [line.split("EASEL_")[1].split(":")[0] for line in told] == [
        "S3_ENDPOINT",
        "DATABASE_URL",
        "S3_ENDPOINT",
        "SLOTS",
    ]
    assert all(line.startswith("✘") for line in told)
    assert "Traceback" not in outcome.stdout + outcome.stderr


async def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.SERVICES, "tests.nowhere", "nowhere")
    monkeypatch.setattr(doctor, "is_installed", lambda _: True)
    [found] = await doctor.check_in_process("tests.nowhere")
    assert (found.check, found.verdict) == ("nowhere: check", Verdict.FAIL)
    assert "No module named" in found.found


async def test_a_check_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SERVICE_TIMEOUT_SECONDS", 0.0)
    [found] = await doctor.check_in_process("inference")
    assert (found.check, found.verdict) == ("worker", Verdict.FAIL)
    assert "longer than" in found.found


async def test_who_is_stopped_leaves_no_check_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.get_running_loop().create_future()
    execute = asyncio.create_subprocess_exec

    async def start(*command: str, **how: Any) -> asyncio.subprocess.Process:
        process = await execute(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, **how)
        started.set_result(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    checking = asyncio.ensure_future(doctor.check_in_process("inference"))
    process = await started
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert process.returncode == -signal.SIGKILL


def s3_error(status_code: int, code: str) -> httpx2.Response:
    return httpx2.Response(status_code, text=f"<Error><Code>{code}</Code></Error>")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (s3_error(404, "NoSuchKey"), Verdict.OK),
        (s3_error(404, "NoSuchBucket"), Verdict.FAIL),
        (s3_error(403, "AccessDenied"), Verdict.WARN),
        (s3_error(403, "SignatureDoesNotMatch"), Verdict.FAIL),
        (s3_error(403, "RequestTimeTooSkewed"), Verdict.FAIL),
        (httpx2.Response(502, text="Bad <gateway"), Verdict.FAIL),
    ],
    ids=str,
)
def test_storage_tells_of_what_is_not_there_to_those_it_trusts(answer: httpx2.Response, verdict: Verdict) -> None:
    found = checks.judge_signature(answer, "http://s3")
    assert found.verdict is verdict
    assert bool(found.hint) == (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("skew_seconds", "verdict"), [(0, "ok"), (-20, "warn"), (20, "warn"), (600, "fail"), (-600, "fail")]
)
def test_clocks_are_compared(skew_seconds: float, verdict: str) -> None:
    answer = httpx2.Response(404, headers={"Date": formatdate(time.time() + skew_seconds, usegmt=True)})
    [found] = checks.judge_clock(answer)
    assert found.verdict == verdict


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}])
def test_storage_without_a_clock_tells_nothing(headers: dict[str, str]) -> None:
    assert list(checks.judge_clock(httpx2.Response(404, headers=headers))) == []

"""`easel doctor`: what is there, what is not, and what to do about it."""

import asyncio
import errno
import os
import platform
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import grpc
import grpc.aio
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table
from rich.text import Text

from easel import __version__
from easel.cli.arguments import DEFAULT_TARGET
from easel.cli.exits import NO_PICTURE
from easel.cli.installed import is_installed
from easel.cli.run import run
from easel.cli.terminal import MUTED, Output, cause, show_table
from easel.client import Client, DeadlineExceeded, EaselError, errors
from easel.client.channel import connect
from easel.environment import lookup
from easel.finding import NOBODY_LISTENS, Finding, Verdict, no_answer, report

#: How long a gateway may take to answer.
ANSWER_TIMEOUT_SECONDS = 5.0

#: Torch takes this long to be imported on a machine that has much else to do.
SERVICE_TIMEOUT_SECONDS = 120.0

#: How a service ends whose settings are wrong, after a line for each of them.
WRONG_SETTINGS = 2

#: The services that make checks of their own, by their packages.
SERVICES = {"gateway": "gateway", "inference": "worker"}

#: What each extra is for.
PURPOSES = {
    "gateway": "running a gateway",
    "inference": "running a worker",
    "local": "`easel up` and `easel demo`",
    "exporters": "traces by OpenTelemetry and errors to Sentry",
    "show": "`--show`",
}

#: The libraries whose versions matter when something is odd.
LIBRARIES = ("grpcio", "protobuf", "torch", "diffusers", "sqlalchemy", "nats-py")

_MARKS = {
    Verdict.OK: Text("✔", style="green"),
    Verdict.WARN: Text("!", style="yellow"),
    Verdict.FAIL: Text("✘", style="red"),
    Verdict.SKIP: Text("-", style=MUTED),
}


def doctor(*, target: str, as_json: bool) -> None:
    """Run the command.

    Raises:
        typer.Exit: a check failed.
    """
    console = Output(stderr=True)
    with console.status("looking"):
        findings = run(_check_all(target), target=target)
    if as_json:
        report(findings)
    else:
        show_table(Output(), table(findings))
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(NO_PICTURE)


def table(findings: Sequence[Finding]) -> Table:
    """Lay out findings, with what to do below what was found."""
    result = Table.grid(padding=(0, 2))
    result.add_column()
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for finding in findings:
        found = Text(finding.found, style=MUTED if finding.verdict is Verdict.SKIP else "")
        if finding.hint:
            found.append(f"\n→ {finding.hint}", style="yellow" if finding.verdict is not Verdict.SKIP else MUTED)
        result.add_row(_MARKS[finding.verdict], Text(finding.check), found)
    return result


async def _check_all(target: str) -> list[Finding]:
    """Make all checks at the same time; what is nearest to a person comes first."""
    parts: list[Coroutine[Any, Any, list[Finding]]] = [_check_service(target)]
    parts += [check_in_process(service) for service in SERVICES]
    served = await asyncio.gather(*parts)
    return [check_python(), check_versions(), *map(check_extra, PURPOSES), *(each for part in served for each in part)]


def check_python() -> Finding:
    """Say which Python on which machine this is; an older one would not have come so far."""
    return Finding("Python", Verdict.OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_versions() -> Finding:
    """Say which versions are installed."""
    versions = [f"easel {__version__}"]
    for library in LIBRARIES:
        try:
            versions.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    return Finding("versions", Verdict.OK, ", ".join(versions))


def check_extra(extra: str) -> Finding:
    """Say whether an extra is installed; each may well be left out."""
    if is_installed(extra):
        return Finding(f"easel[{extra}]", Verdict.OK, f"installed, for {PURPOSES[extra]}")
    hint = f"pip install 'easel[{extra}]' where it is wanted"
    return Finding(f"easel[{extra}]", Verdict.SKIP, f"not installed; it is for {PURPOSES[extra]}", hint)


async def _check_service(target: str) -> list[Finding]:
    """Check the gateway that commands would talk to, and what it can draw."""
    if target == DEFAULT_TARGET and lookup("EASEL_MODEL") and not lookup("EASEL_DATABASE_URL"):
        beside = "a worker runs here, and none is named"
        return [Finding("service", Verdict.SKIP, beside, "--target names a gateway")]
    health = await check_health(target)
    return [health] if health.verdict is Verdict.FAIL else [health, *await check_models(target)]


async def check_health(target: str) -> Finding:
    """Ask a gateway whether it serves."""
    try:
        async with connect(target) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # missing in its stubs
            answer = await check(health_pb2.HealthCheckRequest(), timeout=ANSWER_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError as error:
        why = _why(errors.from_rpc(error))
        return Finding(
            "service", Verdict.FAIL, f"{target}: {why}", "start one with `easel up`, or name it with --target"
        )
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return Finding("service", Verdict.FAIL, f"{target} does not serve", "its log says what it waits for")
    return Finding("service", Verdict.OK, f"{target} serves")


async def check_models(target: str) -> list[Finding]:
    """Ask a gateway for its models, and whether anybody draws them."""
    try:
        async with Client(target, call_seconds=ANSWER_TIMEOUT_SECONDS) as client:
            models = await client.list_models()
    except EaselError as error:
        return [Finding("models", Verdict.FAIL, _why(error), "the gateway's log says more")]
    if not models:
        hint = "a model becomes known when its first worker starts"
        return [Finding("models", Verdict.WARN, "none is known yet", hint)]
    return [_check_model(model.name, model.live_workers) for model in models]


def _why(error: EaselError) -> str:
    if isinstance(error, DeadlineExceeded):
        return no_answer(ANSWER_TIMEOUT_SECONDS)
    why = cause(error)
    return NOBODY_LISTENS if why.startswith(os.strerror(errno.ECONNREFUSED)) else why


def _check_model(name: str, live_workers: int) -> Finding:
    if not live_workers:
        return Finding(f"model {name}", Verdict.WARN, "no live worker", "what is asked of it waits until one starts")
    return Finding(f"model {name}", Verdict.OK, f"{live_workers} live worker{'s' if live_workers > 1 else ''}")


async def check_in_process(service: str) -> list[Finding]:
    """Let a service check what it needs, with its own libraries and settings."""
    if not is_installed(service):
        return []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", f"{service}.check"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SERVICE_TIMEOUT_SECONDS):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        found = f"it took longer than {SERVICE_TIMEOUT_SECONDS:.0f} s"
        return [Finding(SERVICES[service], Verdict.FAIL, found, f"python -m {service}.check shows where it hangs")]
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    # Libraries may have printed things of their own.
    findings = [Finding.from_json(line) for line in stdout.decode().splitlines() if line.startswith("{")]
    if process.returncode:
        findings += _complaints(stderr.decode().splitlines(), wrong_settings=process.returncode == WRONG_SETTINGS)
    return [replace(finding, check=f"{SERVICES[service]}: {finding.check}") for finding in findings]


def _complaints(lines: Sequence[str], *, wrong_settings: bool) -> list[Finding]:
    """Turn what a service said on standard error into findings: each wrong setting, or of a traceback the last line."""
    if wrong_settings:
        return [Finding("settings", Verdict.FAIL, line) for line in lines]
    return [Finding("check", Verdict.FAIL, line, "this is a defect of Easel") for line in lines[-1:]]

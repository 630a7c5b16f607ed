"""What logs and metrics of a whole stack say, and what they never say: what was asked for."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from easel.bus import Bus
from easel.client import Client, EaselError
from easel.embedded import Stack
from easel.v1.generation_pb2 import Failure, FailureReason, Generation, GenerationSpec, GenerationState
from tests import scripted as scripted_module
from tests.faults.clients import until
from tests.faults.parts import worker_beside
from tests.integration.scripted_worker import ScriptedWorker
from tests.scraping import Samples, scrape

#: A word of no language, in lower case, since tokenizers make it so.
MARKER = "xqzvwkj"
#: Beyond what a text encoder takes, which libraries like to complain about word by word.
LONG_PROMPT = " ".join(["a castle"] * 60 + [MARKER])

SUCCEEDED = GenerationState.GENERATION_STATE_SUCCEEDED
FAILED = GenerationState.GENERATION_STATE_FAILED
CANCELLED = GenerationState.GENERATION_STATE_CANCELLED
EXPIRED = GenerationState.GENERATION_STATE_EXPIRED


@pytest.fixture(scope="module", params=["human", "json"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def stack(log_format: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack that says all it can."""
    environment = {
        "EASEL_THREADS": "1",
        "EASEL_LOG_LEVEL": "TRACE",
        "DIFFUSERS_VERBOSITY": "debug",
        "TRANSFORMERS_VERBOSITY": "debug",
        "EASEL_LOG_FORMAT": log_format,
        "EASEL_LEASE_SECONDS": "1.5",
        "EASEL_RENEW_SECONDS": "0.3",
        "EASEL_SWEEP_SECONDS": "0.2",
        "EASEL_UPLOAD_TIMEOUT_SECONDS": "3",
        "EASEL_RETRY_BACKOFF_SECONDS": "0.1",
    }
    async with Stack(tmp_path_factory.mktemp("telemetry"), environment=environment) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.target) as client:
        yield client


@pytest.fixture
async def scripted(stack: Stack) -> AsyncIterator[ScriptedWorker]:
    """A worker that can fail when it should, with a model of its own."""
    bus = Bus()
    await bus.connect(stack.servers.nats.url("worker"), name="test")
    worker = ScriptedWorker(bus, model_name="scripted")
    await worker.renew()
    yield worker
    await worker.release(leaving=True)
    await bus.close()


def telling(**fields: Any) -> GenerationSpec:
    """Ask for something that must not get around."""
    return GenerationSpec(
        **{"model": "postcard", "prompt": LONG_PROMPT, "negative_prompt": f"not {MARKER}", "steps": 1, **fields}
    )


async def ended(client: Client, spec: GenerationSpec) -> Generation:
    async for event in client.generate(spec):
        generation = event.generation
    return generation


async def scrapes(stack: Stack) -> list[Samples]:
    return [await scrape(service.metrics_url) for service in (*stack.gateways, *stack.workers)]


def said(stack: Stack) -> dict[str, str]:
    return {service.name: service.log.read_text() for service in (*stack.gateways, *stack.workers)}


def actions(log: str, *, about: str) -> list[str]:
    """Say what an operator at the level INFO finds who searches a log, for people or for collectors, for an id."""
    lines = [line for line in log.splitlines() if about in line and re.search(r"\bINFO\b", line)]
    return [match[1] for line in lines if (match := re.search(r'\baction(?:=|": ")(\w+)', line))]


async def test_both_services_show_who_they_are(stack: Stack) -> None:
    gateway, worker = await scrapes(stack)
    assert gateway.value("easel_build_info", service="gateway") == 1
    assert worker.value("easel_build_info", service="worker") == 1
    assert all(samples.value("process_resident_memory_bytes") > 0 for samples in (gateway, worker))


async def test_a_generation_is_followed_through_both_services_by_its_id(stack: Stack, client: Client) -> None:
    drawn, other = [await ended(client, telling()) for _ in range(2)]

    async def all_is_told() -> bool:
        return {name: actions(log, about=drawn.id) for name, log in said(stack).items()} == {
            "gateway": ["accept", "transition", "transition"],
            "worker": ["attempt_start", "stored", "attempt_end"],
        }

    # A client may know of the end before those who were there have written it down.
    await until(all_is_told)
    assert not any(other.id in line for log in said(stack).values() for line in log.splitlines() if drawn.id in line)


async def test_a_failure_of_the_model_is_told_with_its_traceback_and_id(
    stack: Stack, client: Client, log_format: str
) -> None:
    async with worker_beside(stack, model=f"failing-{log_format}", **scripted_module.ENVIRONMENT) as worker:
        spec = telling(model=f"failing-{log_format}", prompt=f"fail=model_error {MARKER}")
        failed = await ended(client, spec)
    assert failed.state == FAILED
    log = worker.log.read_text()
    (told,) = [line for line in log.splitlines() if failed.id in line and re.search(r"\bERROR\b", line)]
    assert "cannot be drawn: model error" in told
    assert "Traceback" in (told if log_format == "json" else log)
    assert MARKER not in log


async def test_every_line_has_the_format_that_was_asked_for(stack: Stack, log_format: str) -> None:
    for service, log in said(stack).items():
        lines = log.splitlines()
        assert lines, service
        if log_format == "json":
            for line in lines:
                assert {"time", "level", "message", "service", "generation_id"} <= json.loads(line).keys()
        else:
            told = [line for line in lines if " action=" in line]
            assert told, service
            for line in told:
                assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +(gateway|worker) ", line), line


async def test_what_was_asked_for_is_said_nowhere(stack: Stack, client: Client, scripted: ScriptedWorker) -> None:
    drawn = await ended(client, telling(labels={"label": MARKER}))
    assert drawn.state == SUCCEEDED

    waiting = await client.create(telling(model="scripted"))
    await scripted.fail(
        await scripted.take(), Failure(reason=FailureReason.FAILURE_REASON_MODEL_ERROR, message=f"no {MARKER} here")
    )
    async for event in client.watch(waiting.id):
        failed = event.generation
    assert failed.state == FAILED

    long_one = await client.create(telling(steps=500))
    assert (await client.cancel(long_one.id)).state == CANCELLED

    stack.servers.s3.kill()
    unstored = await ended(client, telling(timeout=Duration(seconds=6)))
    assert unstored.state == EXPIRED
    await stack.servers.s3.start()

    for wrong in ({"steps": -1}, {"scheduler": MARKER}, {"model": MARKER}, {"prompt": f"{MARKER}\0"}):
        with pytest.raises(EaselError):
            await client.create(telling(**wrong))
    with pytest.raises(EaselError):
        await client.get(MARKER)

    logs = said(stack)
    # All of it was indeed logged about.
    assert all(one in logs["gateway"] for one in (drawn.id, failed.id, long_one.id, unstored.id, "InvalidRequest"))
    assert drawn.id in logs["worker"]
    assert "could not be stored" in logs["worker"]
    assert {name: MARKER in log.lower() for name, log in logs.items()} == {"gateway": False, "worker": False}
    assert not any(MARKER in samples.text for samples in await scrapes(stack))

"""One trace from a client's call to the last event, as a collector gets it from real processes."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from easel.embedded import Stack
from easel.v1 import generation_messages_pb2 as messages
from easel.v1.generation_pb2 import GenerationSpec, GenerationState
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests import scripted

PATIENCE_SECONDS = 30.0
#: A word of no language, that must not get around.
MARKER = "xqzvwkj"
GENERATE, CREATE = "easel.v1.GenerationService/Generate", "easel.v1.GenerationService/CreateGeneration"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans, as collectors do."""

    def __init__(self) -> None:
        #: By the service that sent them.
        self.spans: list[tuple[str, Span]] = []
        self.raw = b""
        self._arrived = asyncio.Condition()

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.raw += request.SerializeToString()
        for of_resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in of_scope.spans]
        async with self._arrived:
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> dict[str, tuple[str, Span]]:
        """Give the spans of a trace by their names."""
        return {span.name: (service, span) for service, span in self.spans if span.trace_id.hex() == trace_id}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self._arrived:
            await self._arrived.wait_for(condition)


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[tuple[Collector, int]]:
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, port
    await server.stop(None)


@pytest.fixture(scope="module")
async def stack(collector: tuple[Collector, int], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    environment = {
        "EASEL_TRACES_ENDPOINT": f"http://127.0.0.1:{collector[1]}",
        # How often spans are sent; the SDK reads it itself.
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "EASEL_RETRY_BACKOFF_SECONDS": "0",
        **scripted.ENVIRONMENT,
    }
    folder = tmp_path_factory.mktemp("traced")
    async with Stack(folder, worker_module="tests.scripted", model="scripted", environment=environment) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[GenerationServiceStub]:
    async with grpc.aio.insecure_channel(stack.target) as channel:
        yield GenerationServiceStub(channel)


def spec(prompt: str) -> GenerationSpec:
    return GenerationSpec(model="scripted", prompt=f"{prompt} {MARKER}", negative_prompt=MARKER, steps=2)


async def generate(client: GenerationServiceStub, prompt: str, *, trace_id: str, sampled: bool = True) -> str:
    """Draw, as the client of a trace, and give the generation's id."""
    traceparent = f"00-{trace_id}-{'b' * 16}-{'01' if sampled else '00'}"
    call = client.Generate(messages.GenerateRequest(spec=spec(prompt)), metadata=(("traceparent", traceparent),))
    async for response in call:
        if response.HasField("generation"):
            generation = response.generation
    assert GenerationState.Name(generation.state).endswith(("SUCCEEDED", "FAILED"))
    return str(generation.id)


async def test_one_trace_goes_from_the_call_through_the_queue_to_the_last_event(
    client: GenerationServiceStub, collector: tuple[Collector, int]
) -> None:
    trace_id = uuid.uuid4().hex
    generation_id = await generate(client, "a castle", trace_id=trace_id)
    names = {
        GENERATE, "publish hint", "claim", "attempt", "waiting", "encoding", "denoising", "decoding", "upload",
        "commit result",
    }  # fmt: skip
    spans, _ = collector
    await spans.until(lambda: names <= spans.of(trace_id).keys())
    found = spans.of(trace_id)
    parents = {name: span.parent_span_id for name, (_, span) in found.items()}
    ids = {name: span.span_id for name, (_, span) in found.items()}
    # The client's own span, and then each in the one that brought it about.
    assert parents[GENERATE] == bytes.fromhex("b" * 16)
    assert parents["publish hint"] == ids[GENERATE]
    assert parents["claim"] == ids["publish hint"]
    assert parents["attempt"] == ids["claim"]
    for stage in ("waiting", "encoding", "denoising", "decoding", "upload"):
        assert parents[stage] == ids["attempt"]
    assert parents["commit result"] == ids["attempt"]
    assert {name for name, (service, _) in found.items() if service == "easel-gateway"} == {
        GENERATE, "publish hint", "commit result",
    }  # fmt: skip
    for name in ("publish hint", "claim", "attempt", "commit result"):
        attributes = {each.key: each.value.string_value for each in found[name][1].attributes}
        assert attributes["easel.generation_id"] == generation_id
    (event,) = found["commit result"][1].events
    assert event.name == "announced"
    stages = [found[stage][1] for stage in ("waiting", "encoding", "denoising", "decoding")]
    for one, next_one in pairwise(stages):
        assert one.end_time_unix_nano <= next_one.start_time_unix_nano


async def test_what_fails_is_marked_with_its_reason(
    client: GenerationServiceStub, collector: tuple[Collector, int]
) -> None:
    trace_id = uuid.uuid4().hex
    await generate(client, "fail=invalid_output", trace_id=trace_id)
    spans, _ = collector
    await spans.until(lambda: "attempt" in spans.of(trace_id))
    _, attempt = spans.of(trace_id)["attempt"]
    assert attempt.status.code == Status.STATUS_CODE_ERROR
    assert attempt.status.message == "FAILURE_REASON_INVALID_OUTPUT"


async def test_a_call_without_a_trace_begins_one_and_one_that_is_not_recorded_stays_so(
    client: GenerationServiceStub, collector: tuple[Collector, int]
) -> None:
    spans, _ = collector
    unrecorded = uuid.uuid4().hex
    await generate(client, "a castle", trace_id=unrecorded, sampled=False)
    created = (await client.CreateGeneration(messages.CreateGenerationRequest(spec=spec("a boat")))).generation

    def of_it() -> set[str]:
        wanted = ("easel.generation_id", created.id)
        return {
            span.trace_id.hex()
            for _, span in spans.spans
            if span.name in (CREATE, "attempt") and wanted in [(a.key, a.value.string_value) for a in span.attributes]
        }

    def has_begun_one() -> bool:
        (trace_id,) = of_it() or {""}
        return {CREATE, "attempt"} <= spans.of(trace_id).keys()

    await spans.until(has_begun_one)
    assert unrecorded not in {span.trace_id.hex() for _, span in spans.spans}


async def test_nothing_of_what_was_asked_for_is_in_any_span(
    client: GenerationServiceStub, collector: tuple[Collector, int]
) -> None:
    spans, _ = collector
    trace_id = uuid.uuid4().hex
    await generate(client, "fail=model_error", trace_id=trace_id)
    await spans.until(lambda: "attempt" in spans.of(trace_id))
    assert MARKER.encode() not in spans.raw

"""How calls are counted, by a real server: whatever ends them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from gateway.api.calls import CallInterceptor
from gateway.errors import GenerationNotFound
from gateway.metrics import Metrics
from gateway.turns import Turns

PATIENCE_SECONDS = 10.0
SOON_SECONDS = 0.5
WRITE_TIMEOUT_SECONDS = 0.5
UNARY, STREAM = "easel.test.Service/Unary", "easel.test.Service/Stream"


class Service:
    """Does what a request says: `answer`, `refuse`, `break`, `wait` or `flood`."""

    async def unary(self, request: bytes, context: Any) -> bytes:
        await self._do(request)
        return b"done"

    async def stream(self, request: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        while request == b"flood":
            yield bytes(100_000)
        yield b"begun"
        await self._do(request)

    async def _do(self, what: bytes) -> None:
        if what == b"refuse":
            raise GenerationNotFound("g")
        if what == b"break":
            raise ZeroDivisionError
        if what == b"wait":
            await asyncio.Event().wait()


class Calls:
    """A channel to the server, and its metrics."""

    def __init__(self, channel: grpc.aio.Channel, registry: CollectorRegistry) -> None:
        self.unary: Any = channel.unary_unary(f"/{UNARY}")
        self.stream: Any = channel.unary_stream(f"/{STREAM}")
        self.unknown: Any = channel.unary_unary("/easel.test.Service/Nothing")
        self.free: Any = channel.unary_unary("/easel.test.Service/Free")
        self.health: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        self._registry = registry

    def count(self, method: str, code: str) -> float:
        return self._registry.get_sample_value("easel_rpcs_total", {"method": method, "code": code}) or 0

    @property
    def watchers(self) -> float | None:
        return self._registry.get_sample_value("easel_watchers")

    @property
    def labelled(self) -> set[str]:
        families = [family for family in self._registry.collect() if family.name.startswith("easel_rpc")]
        return {sample.labels["method"] for family in families for sample in family.samples}

    async def until_counted(self, method: str, code: str) -> None:
        """Wait until a call has ended with a code: a client may know sooner than the server."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count(method, code) != 1 or self.watchers != 0:  # noqa: ASYNC110  # a counter tells nobody
                await asyncio.sleep(0.01)
        assert self._registry.get_sample_value("easel_rpc_seconds_count", {"method": method}) == 1
        others = [status.name for status in grpc.StatusCode if status.name != code]
        assert [self.count(method, other) for other in others] == [0] * len(others)


def handlers(service: Service, name: str) -> Any:
    methods: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(service.unary),
        "Stream": grpc.unary_stream_rpc_method_handler(service.stream),
        "Check": grpc.unary_unary_rpc_method_handler(service.unary),
        "Free": grpc.unary_unary_rpc_method_handler(service.unary),
    }
    return grpc.method_handlers_generic_handler(name, methods)


@pytest.fixture
async def calls(metrics: Metrics, registry: CollectorRegistry) -> AsyncIterator[Calls]:
    async with serving(metrics) as channel:
        yield Calls(channel, registry)


@pytest.fixture
async def calls_one_at_a_time(metrics: Metrics, registry: CollectorRegistry) -> AsyncIterator[Calls]:
    """Calls of a service that answers one of a kind at a time, and lets others of it wait for a moment only."""
    turns = Turns(places=1, places_per_owner=1, timeout_seconds=0.05)
    async with serving(metrics, turns={"Unary": turns}) as channel:
        yield Calls(channel, registry)


@pytest.fixture
async def narrow_calls(metrics: Metrics, registry: CollectorRegistry) -> AsyncIterator[Calls]:
    """Calls of a client that takes hardly anything before it is read, by a server that soon loses patience."""
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    async with serving(metrics, write_timeout_seconds=WRITE_TIMEOUT_SECONDS, options=options) as channel:
        yield Calls(channel, registry)


@asynccontextmanager
async def serving(
    metrics: Metrics,
    *,
    write_timeout_seconds: float = PATIENCE_SECONDS,
    turns: Mapping[str, Turns] = MappingProxyType({}),
    options: Sequence[tuple[str, int]] = (),
) -> AsyncIterator[grpc.aio.Channel]:
    interceptor = CallInterceptor(metrics, turns=turns, write_timeout_seconds=write_timeout_seconds)
    server = grpc.aio.server(interceptors=[interceptor])
    service = Service()
    server.add_generic_rpc_handlers(
        (handlers(service, "easel.test.Service"), handlers(service, "grpc.health.v1.Health"))
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel
    await server.stop(None)


async def drained(call: Any) -> None:
    async for _ in call:
        pass


async def test_answers_are_ok(calls: Calls) -> None:
    await calls.unary(b"answer")
    await calls.until_counted(UNARY, "OK")
    await drained(calls.stream(b"answer"))
    await calls.until_counted(STREAM, "OK")


@pytest.mark.parametrize(("request_", "code"), [(b"refuse", "NOT_FOUND"), (b"break", "INTERNAL")])
async def test_errors_count_by_the_code_that_the_client_sees(calls: Calls, request_: bytes, code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.unary(request_)
    assert refused.value.code().name == code
    await calls.until_counted(UNARY, code)
    with pytest.raises(grpc.aio.AioRpcError):
        await drained(calls.stream(request_))
    await calls.until_counted(STREAM, code)


async def test_a_deadline_is_told_from_a_cancel(calls: Calls) -> None:
    await calls.free(b"answer")  # so that no time goes by until it is connected
    for call in (calls.unary(b"wait", timeout=SOON_SECONDS), drained(calls.stream(b"wait", timeout=SOON_SECONDS))):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    await calls.until_counted(UNARY, "DEADLINE_EXCEEDED")
    await calls.until_counted(STREAM, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_a_client_that_goes_away_cancels(calls: Calls, timeout: float | None) -> None:
    stream = calls.stream(b"wait", timeout=timeout)
    await stream.read()
    assert calls.watchers == 1
    assert calls.count(STREAM, "OK") == 0
    stream.cancel()
    await calls.until_counted(STREAM, "CANCELLED")


async def test_a_client_that_goes_away_while_a_response_is_sent_cancels(calls: Calls) -> None:
    stream = calls.stream(b"flood")
    await stream.read()
    stream.cancel()
    await calls.until_counted(STREAM, "CANCELLED")


async def until_given_up(calls: Calls) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while calls.watchers != 0:  # noqa: ASYNC110  # a gauge tells nobody
            await asyncio.sleep(0.01)


async def test_a_client_that_does_not_read_is_given_up_and_hears_of_it_when_it_does(narrow_calls: Calls) -> None:
    stream = narrow_calls.stream(b"flood")
    await stream.wait_for_connection()
    await until_given_up(narrow_calls)
    assert await stream.read() == bytes(100_000)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    rich = rpc_status.from_call(ended.value)  # type: ignore[arg-type]  # its stubs know sync calls only
    assert rich is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert rich.details[0].Unpack(info)
    assert rich.details[1].Unpack(retry)
    assert (ended.value.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "ERROR_REASON_SLOW_READER")
    assert retry.retry_delay.seconds == 1
    await narrow_calls.until_counted(STREAM, "UNAVAILABLE")


async def test_a_client_that_was_given_up_counts_once_also_if_it_never_reads(narrow_calls: Calls) -> None:
    stream = narrow_calls.stream(b"flood")
    await stream.wait_for_connection()
    await until_given_up(narrow_calls)
    assert narrow_calls.count(STREAM, "UNAVAILABLE") == 0
    stream.cancel()
    await narrow_calls.until_counted(STREAM, "UNAVAILABLE")


async def test_a_stream_may_be_quiet_for_long(narrow_calls: Calls) -> None:
    stream = narrow_calls.stream(b"wait")
    assert await stream.read() == b"begun"
    await asyncio.sleep(2 * WRITE_TIMEOUT_SECONDS)
    assert narrow_calls.watchers == 1
    stream.cancel()
    await narrow_calls.until_counted(STREAM, "CANCELLED")


async def until_refused(call: Callable[[bytes], Any]) -> grpc.aio.AioRpcError:
    """Call until another call keeps us out, which may take a moment to come in."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await call(b"answer")
            except grpc.aio.AioRpcError as refused:
                return refused


async def test_calls_of_a_kind_take_turns_and_others_need_none(calls_one_at_a_time: Calls) -> None:
    calls = calls_one_at_a_time
    first = calls.unary(b"wait")
    assert (await until_refused(calls.unary)).code() == grpc.StatusCode.UNAVAILABLE
    await calls.free(b"answer")
    await drained(calls.stream(b"answer"))
    first.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while calls.count(UNARY, "CANCELLED") != 1:  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(0.01)
    await calls.unary(b"answer")


async def test_what_is_not_ours_makes_no_labels(calls: Calls) -> None:
    await calls.unary(b"answer")
    await calls.health(b"answer")
    with pytest.raises(grpc.aio.AioRpcError):
        await calls.unknown(b"answer")
    await calls.until_counted(UNARY, "OK")
    assert calls.labelled == {UNARY}

"""Traces, as OpenTelemetry has them; off until an endpoint is given.

A span is begun where there is something to belong to: the client's own trace, or one that begins with its call. What
has no such origin, such as a renewal, leaves no span. Nothing of what was asked for is in any attribute.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from easel import __version__

#: The name under which W3C's trace context travels: in metadata of calls, and in headers on NATS.
HEADER = "traceparent"

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("easel", __version__)


class TracesUnavailable(Exception):
    """What sends traces is not installed."""


def configure(endpoint: str, *, service: str, ratio: float) -> Callable[[], None]:
    """Send the spans of this process to a collector from now on; once in a process.

    Args:
        endpoint: Where it takes OTLP over gRPC, such as `http://127.0.0.1:4317`.
        service: Who they are of.
        ratio: Which share of the traces that begin here is recorded; of those that come from elsewhere, what their
            origin has decided.

    Returns:
        What is to be called at the end, on a thread that may wait for long: it sends what is left.

    Raises:
        TracesUnavailable: OpenTelemetry's SDK is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # with the next, half a second
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError as error:
        raise TracesUnavailable("OpenTelemetry's SDK is not installed: pip install 'easel[exporters]'") from error
    resource = Resource.create({"service.name": f"easel-{service}", "service.version": __version__})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


@contextmanager
def serve(method: str, metadata: Mapping[str, str]) -> Iterator[Span]:
    """Begin the span of a call, which belongs to its client's trace, if it has one."""
    service, _, name = method.strip("/").rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    with _tracer.start_as_current_span(
        method.strip("/"),
        context=_propagator.extract(metadata),
        kind=SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


@contextmanager
def span(
    name: str, *, parent: str | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int
) -> Iterator[Span]:
    """Begin a span within a trace: the one of `parent`, or else the current one; without any there is none.

    Args:
        name: What is done.
        parent: What `current` said elsewhere; of the current span when None.
        kind: How it stands to its parent.
        attributes: What it is about; `easel.` is put before their names.
    """
    context = Context() if parent == "" else None if parent is None else _propagator.extract({HEADER: parent})
    if not trace.get_current_span(context).get_span_context().is_valid:
        yield trace.INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=_named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            # What it says may quote what was asked for.
            fail(begun, type(error).__name__)
            raise


def annotate(**attributes: str | int) -> None:
    """Put attributes on the current span."""
    trace.get_current_span().set_attributes(_named(attributes))


def fail(span: Span, description: str) -> None:
    """Mark what a span is about as failed."""
    span.set_status(Status(StatusCode.ERROR, description))


def current() -> str:
    """Give the current span for others to belong to; empty without one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(HEADER, "")


class Stages:
    """Spans of which each ends when the next one begins."""

    def __init__(self) -> None:
        self._span: Span | None = None

    def enter(self, name: str) -> None:
        """Begin the next one."""
        self.end()
        if trace.get_current_span().get_span_context().is_valid:
            self._span = _tracer.start_span(name)

    def end(self) -> None:
        """End the last one; harmless without any."""
        if self._span is not None:
            self._span.end()
            self._span = None


def _named(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"easel.{name}": value for name, value in attributes.items()}

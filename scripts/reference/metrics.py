"""The page of the metrics, made from the instruments themselves."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.metrics import Metrics as GatewayMetrics
from inference.metrics import Metrics as WorkerMetrics
from scripts.reference import markdown

INTRODUCTION = """
Each service answers Prometheus at `http://HOST:PORT/metrics`, where `EASEL_METRICS_LISTEN` says; see
[settings](settings.md). Beside what is listed here, both show `easel_build_info{service, version}` and the metrics of
their process and of Python (`process_…`, `python_…`). Times are in seconds. No prompt is in any label.

Processes of one service on one machine that are given the same folder in `PROMETHEUS_MULTIPROC_DIR` can share one
address: whichever of them answers shows the sum of all. The folder has to be empty when the first of them starts. The
metrics of processes and of Python are missing then, and a probe is answered by one of them for itself alone.

At the same address probes are answered, with 200 or 503 and a line for each thing that was looked at: `/livez`, whether
the process is worth keeping, and `/readyz`, whether it can be given work.
""".strip()


def page() -> str:
    """Make the page."""
    gateway, worker = GatewayMetrics(CollectorRegistry()), WorkerMetrics(CollectorRegistry(), model="")
    return markdown.page(
        "Metrics",
        INTRODUCTION,
        *_section("Gateway", gateway),
        *_section("Worker", worker),
        source="gateway/metrics.py, inference/metrics.py",
    )


def _section(title: str, metrics: object) -> list[str]:
    notes = (type(metrics).__doc__ or "").partition("\n\n")[2]
    return [
        f"## {title}",
        " ".join(notes.split()),
        markdown.table(("Name", "Type", "Labels", "What it says"), map(_row, _instruments_of(metrics))),
    ]


def _instruments_of(metrics: object) -> Iterator[MetricWrapperBase]:
    """List the instruments, those of the engine first."""
    if isinstance(metrics, WorkerMetrics):
        yield from _instruments_of(metrics.engine)
    yield from (one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase))


def _row(instrument: MetricWrapperBase) -> tuple[str, str, str, str]:
    (family,) = instrument.collect()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = [_label(label, instrument) for label in instrument._labelnames]  # noqa: SLF001  # told nowhere else
    return markdown.code(name), family.type, "<br>".join(labels), family.documentation


def _label(label: str, instrument: MetricWrapperBase) -> str:
    """Name a label, and its values where they are known beforehand."""
    (family,) = instrument.collect()
    values = dict.fromkeys(sample.labels[label] for sample in family.samples if sample.labels[label])
    known = ", ".join(markdown.code(value) for value in values)
    return f"{markdown.code(label)}: {known}" if known else markdown.code(label)

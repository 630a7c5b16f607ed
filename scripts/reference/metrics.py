"""The page of the metrics, made from the instruments themselves."""

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.metrics import Metrics as GatewayMetrics
from inference.metrics import Metrics as WorkerMetrics
from scripts.reference import markdown

INTRODUCTION = """
Each service answers Prometheus at `http://HOST:PORT/metrics`, where `EASEL_METRICS_LISTEN` says; see
[settings](settings.md). Beside what is listed here, both show `easel_build_info{service, version}` and the metrics of
their process and of Python (`process_…`, `python_…`). Times are in seconds. No prompt is in any label.
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
    instruments = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    return [
        f"## {title}",
        " ".join(notes.split()),
        markdown.table(("Name", "Type", "Labels", "What it says"), map(_row, instruments)),
    ]


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

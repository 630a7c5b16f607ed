"""Dashboards and rules ask for what there is, and each alert has an entry in the runbook."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.metrics import Metrics as GatewayMetrics
from inference.metrics import Metrics as WorkerMetrics
from tests.unit.observe.expressions import (
    REPOSITORY,
    alerts,
    dashboards,
    panels,
    queries,
    recorded,
    rules,
    series_of,
)

TESTED = REPOSITORY / "tests" / "unit" / "observe" / "rules.test.yml"
RUNBOOK = REPOSITORY / "docs" / "runbook.md"

_NAME = re.compile(r"\b(easel[_:][a-z0-9_:]+)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


def _exported() -> Iterator[tuple[str, set[str]]]:
    """Give each series that services show, with its labels."""
    worker = WorkerMetrics(CollectorRegistry(), model="m")
    instruments = [*vars(GatewayMetrics(CollectorRegistry())).values(), *vars(worker).values()]
    for instrument in [*instruments, *vars(worker.engine).values()]:
        if isinstance(instrument, MetricWrapperBase):
            (family,) = instrument.collect()
            for suffix in _SUFFIXES[family.type]:
                yield family.name + suffix, set(instrument._labelnames)


#: `easel.telemetry` shows the first ones itself.
EXPORTED = {
    "easel_build_info": {"service", "version"},
    "easel_processes": {"service"},
    "easel_ready": {"service"},
    **dict(_exported()),
}
RECORDED = {rule["record"] for rule in recorded()}
#: By which a query may group them; recorded ones have those that they were grouped by, of these.
LABELS = {**EXPORTED, **{name: {"model", "state", "method", "code"} for name in RECORDED}}
EXPRESSIONS = [*queries(), *((rule.get("record") or rule["alert"], rule["expr"]) for rule in rules())]


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS)
def test_every_query_asks_for_series_that_there_are(where: str, expr: str) -> None:
    names = set(_NAME.findall(expr))
    assert names, where
    assert names <= EXPORTED.keys() | RECORDED


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS)
def test_every_query_asks_by_labels_that_they_have(where: str, expr: str) -> None:
    del where
    for name, selected in re.findall(r"\b(easel_[a-z0-9_]+)\{([^}]*)\}", expr):
        labels = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", selected))
        assert labels <= EXPORTED[name], (name, labels)


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS)
def test_every_query_groups_by_labels_that_there_are(where: str, expr: str) -> None:
    """Whichever series they are on: one that is misspelt is on none, and Prometheus would group by nothing."""
    grouped = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for label in re.findall(r"\w+", group)}
    named = {label for name in _NAME.findall(expr) for label in LABELS.get(name, ())}
    assert grouped <= named | {"le", "instance", "job"}, where


def test_every_series_that_services_show_is_looked_at_somewhere() -> None:
    looked_at = {name for _, expr in EXPRESSIONS for name in _NAME.findall(expr)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPORTED}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in looked_at}
    assert families - seen == set()


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_every_picture_has_a_title_a_unit_and_a_place(dashboard: dict[str, object]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]  # type: ignore[attr-defined]
    assert ids == sorted(set(ids))
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("dashboard", dashboards().values(), ids=dashboards())
def test_no_picture_lies_over_another(dashboard: dict[str, object]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]  # type: ignore[attr-defined]
    for one, other in pairwise(places):
        beside = other["y"] == one["y"] and other["x"] >= one["x"] + one["w"]
        assert beside or other["y"] >= one["y"] + one["h"]


def test_there_are_quantiles_and_bars() -> None:
    found = {panel["type"] for dashboard in dashboards().values() for panel in panels(dashboard)}
    assert {"timeseries", "bargauge", "stat", "heatmap"} <= found
    for quantile in ("0.5", "0.9", "0.95", "0.99"):
        assert any(f"histogram_quantile({quantile}, " in expr for _, expr in queries())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_compares_a_recorded_series_and_says_what_to_do(alert: dict[str, object]) -> None:
    assert series_of(alert) in RECORDED
    name = str(alert["alert"])
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"  # type: ignore[index]
    assert alert["labels"]["severity"] in ("warning", "critical")  # type: ignore[index]
    assert f"## {name}\n" in RUNBOOK.read_text(encoding="utf-8")


def test_every_alert_is_seen_to_fire_in_a_test() -> None:
    tests = yaml.safe_load(TESTED.read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert fired == {alert["alert"] for alert in alerts()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed here")
def test_prometheus_takes_them_and_they_fire_when_they_should() -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "check-deployment"], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout + done.stderr

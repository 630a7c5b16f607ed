"""The queries of dashboards and rules, as they lie in the repository."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
RULES = REPOSITORY / "easel" / "observe" / "prometheus" / "rules.yml"
DASHBOARDS = REPOSITORY / "easel" / "observe" / "grafana" / "dashboards"

#: What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}
_ALERT = re.compile(r"(?P<series>[a-z0-9_:]+) (?P<operator>[<>]) (?P<number>[0-9.]+)")


def rules() -> list[Mapping[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded() -> list[Mapping[str, Any]]:
    return [rule for rule in rules() if "record" in rule]


def alerts() -> list[Mapping[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def series_of(alert: Mapping[str, Any]) -> str:
    """Take an alert's series out of its comparison."""
    match = _ALERT.fullmatch(alert["expr"])
    assert match is not None, f"{alert['alert']} compares no recorded series with a number"
    return match["series"]


def dashboards() -> dict[str, Mapping[str, Any]]:
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the pictures, but not the headings and texts between them."""
    return (panel for panel in dashboard["panels"] if panel["type"] not in ("row", "text"))


def queries() -> Iterator[tuple[str, str]]:
    """Give every query of every dashboard, as Prometheus gets it, with where it is."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                expr = target["expr"]
                for variable, value in VARIABLES.items():
                    expr = expr.replace(variable, value)
                yield f"{name}: {panel['title']}", expr

"""`python -m scripts.observe FOLDER`: writes the dashboards, and the rules as Kubernetes takes them, below a folder."""

import json
import sys
from pathlib import Path

import yaml

from scripts.observe.inference import inference
from scripts.observe.request import request
from scripts.observe.service import service

REPOSITORY = Path(__file__).parents[2]
RULES = "easel/observe/prometheus/rules.yml"
DASHBOARDS = "easel/observe/grafana/dashboards"
PROMETHEUS_RULE = "k8s/components/monitoring/rules.yaml"


def main() -> int:
    """Write them all."""
    (root,) = map(Path, sys.argv[1:])
    for dashboard in (service(), inference(), request()):
        file = root / DASHBOARDS / f"{dashboard['uid']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dashboard, indent=2) + "\n", encoding="utf-8")
    groups = yaml.safe_load((REPOSITORY / RULES).read_text(encoding="utf-8"))["groups"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "easel", "namespace": "easel"},
        "spec": {"groups": groups},
    }
    file = root / PROMETHEUS_RULE
    file.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Made by `make observe` from {RULES}.\n"
    file.write_text(head + yaml.safe_dump(rule, sort_keys=False, width=120), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

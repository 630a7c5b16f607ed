"""`python -m scripts.deployment FOLDER`: writes what is deployed and follows from the code, below a folder.

These are Grafana's dashboards, the rules as Kubernetes takes them, and the permissions of users on NATS.
"""

import json
import sys
from pathlib import Path

import yaml

from easel.permissions import PERMISSIONS
from scripts.deployment.inference import inference
from scripts.deployment.request import request
from scripts.deployment.service import service

REPOSITORY = Path(__file__).parents[2]
RULES = "easel/observe/prometheus/rules.yml"
DASHBOARDS = "easel/observe/grafana/dashboards"
PROMETHEUS_RULE = "k8s/components/monitoring/rules.yaml"
NATS_PERMISSIONS = ("compose/permissions.conf", "k8s/overlays/dev/permissions.conf")


def main() -> int:
    """Write them all."""
    (root,) = map(Path, sys.argv[1:])
    for dashboard in (service(), inference(), request()):
        _write(root / DASHBOARDS / f"{dashboard['uid']}.json", json.dumps(dashboard, indent=2) + "\n")
    _write(root / PROMETHEUS_RULE, _prometheus_rule())
    for file in NATS_PERMISSIONS:
        _write(root / file, _nats_permissions())
    return 0


def _prometheus_rule() -> str:
    groups = yaml.safe_load((REPOSITORY / RULES).read_text(encoding="utf-8"))["groups"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "easel", "namespace": "easel"},
        "spec": {"groups": groups},
    }
    return f"# Made by `make deployment` from {RULES}.\n" + yaml.safe_dump(rule, sort_keys=False, width=120)


def _nats_permissions() -> str:
    """Give each user's permissions a name that a configuration of NATS can include and use."""
    lines = [
        "# Made by `make deployment` from easel/permissions.py. What each user may do; everything else is refused."
    ]
    # JSON is valid configuration.
    lines += [f"{user.upper()} = {json.dumps(each.to_config(), indent=2)}" for user, each in PERMISSIONS.items()]
    return "\n".join(lines) + "\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

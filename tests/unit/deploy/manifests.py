"""What `kubectl kustomize` makes of `k8s/`, and how a cluster would read it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[3] / "k8s"
KUBECTL = Path(sys.executable).with_name("kubectl")

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Pod:
    """The pods that one workload makes."""

    name: str
    workload: Manifest
    labels: Mapping[str, str]
    spec: Manifest

    @property
    def component(self) -> str:
        """Which part of Easel it is, or which server."""
        return self.labels.get("app.kubernetes.io/component") or self.labels["app.kubernetes.io/name"]

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def container(self) -> Manifest:
        (container,) = self.containers
        return container

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    def port(self, port: int | str) -> int:
        """Look a port up by its name, if it has one."""
        return self.ports[port] if isinstance(port, str) else port

    @property
    def volumes(self) -> dict[str, Manifest]:
        """The volumes by the path where they are mounted."""
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        claims = self.workload["spec"].get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"]: claim for claim in claims}
        return {mount["mountPath"]: volumes[mount["name"]] for mount in self.container.get("volumeMounts", [])}


class Rendered:
    """All that one folder is rendered to."""

    def __init__(self, folder: Path) -> None:
        done = subprocess.run([KUBECTL, "kustomize", folder], check=True, capture_output=True, text=True)
        self.manifests: list[Manifest] = list(yaml.safe_load_all(done.stdout))

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        (manifest,) = (manifest for manifest in self.of_kind(kind) if manifest["metadata"]["name"] == name)
        return manifest

    @cached_property
    def pods(self) -> dict[str, Pod]:
        """The pods by their component."""
        pods = [
            Pod(
                name=manifest["metadata"]["name"],
                workload=manifest,
                labels=manifest["spec"]["template"]["metadata"]["labels"],
                spec=manifest["spec"]["template"]["spec"],
            )
            for manifest in self.manifests
            if manifest["kind"] in WORKLOADS
        ]
        by_component = {pod.component: pod for pod in pods}
        assert len(by_component) == len(pods)
        return by_component

    def selected(self, selector: Manifest) -> set[str]:
        """The components of the pods that a label selector finds."""
        return {name for name, pod in self.pods.items() if selects(selector, pod.labels)}

    def environment(self, pod: Pod) -> dict[str, str | Manifest]:
        """The variables that a container gets: their values, or where those come from."""
        variables: dict[str, str | Manifest] = {}
        for source in pod.container.get("envFrom", []):
            if "configMapRef" in source:
                variables |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                assert source["secretRef"]["optional"], source  # what it may hold nobody here can know
        for variable in pod.container.get("env", []):
            variables[variable["name"]] = variable["value"] if "value" in variable else variable["valueFrom"]
        return variables

    def settings(self, pod: Pod) -> dict[str, str]:
        """The values that stand in the manifests."""
        return {name: value for name, value in self.environment(pod).items() if isinstance(value, str)}

    def secret_keys(self, pod: Pod) -> dict[str, tuple[str, str]]:
        """The secrets and keys that values come from."""
        references = {
            name: value["secretKeyRef"]
            for name, value in self.environment(pod).items()
            if not isinstance(value, str) and "secretKeyRef" in value
        }
        return {name: (reference["name"], reference["key"]) for name, reference in references.items()}


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector finds what has these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod somewhere, or with neither labels nor namespace an address outside the cluster."""

    labels: Mapping[str, str]
    namespace: Mapping[str, str]


#: What a rule means that names no peers.
EVERYWHERE = "0.0.0.0/0"
OWN_NAMESPACE = {"kubernetes.io/metadata.name": "easel"}


class Network:
    """What the NetworkPolicies of the namespace allow, read as Kubernetes documents them."""

    def __init__(self, rendered: Rendered) -> None:
        self._rendered = rendered
        self._policies = rendered.of_kind("NetworkPolicy")

    def may_leave(self, source: Pod, destination: Peer, port: int, *, protocol: str = "TCP") -> bool:
        return self._allows("Egress", source, destination, port, protocol)

    def may_enter(self, source: Peer, destination: Pod, port: int) -> bool:
        return self._allows("Ingress", destination, source, port, "TCP")

    def addresses(self, direction: str, pod: Pod) -> set[tuple[str, int]]:
        """What a pod reaches, or is reached from, whoever is there: blocks of addresses, and ports."""
        end = "to" if direction == "Egress" else "from"
        return {
            (peer["ipBlock"]["cidr"], port["port"])
            for rule in self._rules(direction, pod)
            for peer in rule.get(end, [{"ipBlock": {"cidr": EVERYWHERE}}])
            for port in rule.get("ports", [{"port": 0}])
            if "ipBlock" in peer
        }

    def is_isolated(self, pod: Pod) -> bool:
        """Whether nothing is allowed but what some policy says."""
        return all(
            any(
                direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels)
                for policy in self._policies
            )
            for direction in ("Ingress", "Egress")
        )

    def _rules(self, direction: str, pod: Pod) -> Iterator[Manifest]:
        for policy in self._policies:
            spec = policy["spec"]
            if direction in spec["policyTypes"] and selects(spec["podSelector"], pod.labels):
                yield from spec.get(direction.lower(), [])

    def _allows(self, direction: str, pod: Pod, other: Peer, port: int, protocol: str) -> bool:
        end = "to" if direction == "Egress" else "from"
        return any(
            (end not in rule or any(_is_meant(peer, other) for peer in rule[end]))
            and (
                "ports" not in rule
                # A name is one of the pod's own: that way only ingress may use them.
                or any(
                    pod.port(allowed["port"]) == port and allowed.get("protocol", "TCP") == protocol
                    for allowed in rule["ports"]
                )
            )
            for rule in self._rules(direction, pod)
        )


def _is_meant(peer: Manifest, other: Peer) -> bool:
    if "ipBlock" in peer:
        return False  # see `addresses`
    in_namespace = selects(peer.get("namespaceSelector", {"matchLabels": OWN_NAMESPACE}), other.namespace)
    return in_namespace and selects(peer.get("podSelector", {}), other.labels)

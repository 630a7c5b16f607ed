"""compose.yaml, as Compose itself resolves it; that needs no engine."""

import json
import os
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.containers.dockerfile import REPOSITORY

#: None of them needs quotes to be read as a text, which a random one might; NATS has to take the one of digits alone.
SECRETS = {
    "POSTGRES_PASSWORD": "a1",
    "NATS_GATEWAY_PASSWORD": "1234567",
    "NATS_WORKER_PASSWORD": "12e4",
    "S3_ACCESS_KEY": "b2",
    "S3_SECRET_KEY": "c3",
    "GRAFANA_PASSWORD": "d4",
}


def run(
    *arguments: str, folder: Path = REPOSITORY, variables: Mapping[str, str] = SECRETS
) -> subprocess.CompletedProcess[str]:
    """Run Compose in a folder, with these variables and nothing of our environment or of a `.env`."""
    program = str(Path(sysconfig.get_path("scripts")) / "docker-compose")
    return subprocess.run(
        [program, "--env-file", os.devnull, *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": os.devnull, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def resolve(*arguments: str, **variables: str) -> dict[str, Any]:
    """Resolve compose.yaml with all profiles, or with those that the arguments name."""
    done = run(*(arguments or ("--profile", "*")), "config", "--format", "json", variables={**SECRETS, **variables})
    assert done.returncode == 0, done.stderr
    resolved: dict[str, Any] = json.loads(done.stdout)
    return resolved

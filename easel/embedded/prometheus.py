"""Prometheus, where it is installed: it reads the metrics of a stack, and evaluates Easel's rules."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2

from easel.embedded.folder import DataFolder, write_private
from easel.embedded.ports import HOST
from easel.embedded.process import Process, clean_environment

RULES = Path(__file__).parents[1] / "observe" / "prometheus" / "rules.yml"
PROGRAM = "prometheus"
RETENTION = "7d"
ANSWER_TIMEOUT_SECONDS = 2.0


class Prometheus(Process):
    """Prometheus on a data folder.

    Args:
        folder: Where its data lie.
        port: Where it answers.
        jobs: What it reads: addresses, by what they are.
        interval_seconds: How often.
    """

    def __init__(
        self, *, folder: DataFolder, port: int, jobs: Mapping[str, Sequence[str]], interval_seconds: float
    ) -> None:
        super().__init__("prometheus", folder=folder)
        self._port = port
        self._jobs = jobs
        self._interval_seconds = interval_seconds
        self._config = folder.path / "prometheus.json"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._port}"

    @property
    def place(self) -> str:
        """Say where people find it."""
        return self.url

    def launch(self) -> None:
        """Launch it with its configuration written anew."""
        # JSON is valid YAML.
        write_private(self._config, json.dumps(self._configuration(), indent=2))
        super().launch()

    def argv(self) -> Sequence[str]:
        """Run it on its configuration."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise RuntimeError("ask `is_installed` before")
        return [
            program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.folder.path / 'prometheus'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address={HOST}:{self._port}",
            "--log.level=warn",
        ]

    def environment(self) -> Mapping[str, str]:
        """Keep our environment out of it."""
        return clean_environment(self.folder.path)

    async def is_ready(self) -> bool:
        """Ask it."""
        try:
            async with httpx2.AsyncClient(timeout=ANSWER_TIMEOUT_SECONDS, trust_env=False) as client:
                return (await client.get(f"{self.url}/-/ready")).is_success
        except httpx2.HTTPError:
            return False

    def _configuration(self) -> Mapping[str, object]:
        interval = f"{round(self._interval_seconds * 1000)}ms"
        return {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in self._jobs.items()
            ],
        }


def is_installed() -> bool:
    """Whether there is one to be run."""
    return shutil.which(PROGRAM) is not None

"""The forge runs what people run."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def jobs() -> Mapping[str, Any]:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    return dict(workflow["jobs"])


def steps(jobs: Mapping[str, Any], kind: str) -> Iterator[str]:
    return (step[kind] for job in jobs.values() for step in job["steps"] if kind in step)


def test_it_makes_what_ci_run_makes(jobs: Mapping[str, Any]) -> None:
    made = set(re.findall(r"^make ([a-z-]+)", "\n".join(steps(jobs, "run")), flags=re.MULTILINE))
    ours = set(re.findall(r"^make ([a-z-]+)", (REPOSITORY / ".ci" / "run").read_text(), flags=re.MULTILINE))
    assert made == ours == {"check", "test"}
    assert made <= TARGETS


def test_its_torch_is_the_makefiles(jobs: Mapping[str, Any]) -> None:
    (default,) = re.findall(r"TORCH \?= (torch==\S+)", MAKEFILE)
    assert set(re.findall(r"torch==[^\s\"]+", "\n".join(steps(jobs, "run")))) == {default}


def test_what_it_runs_is_there_and_what_it_uses_has_a_version(jobs: Mapping[str, Any]) -> None:
    for line in steps(jobs, "run"):
        if line.startswith("scripts/"):
            assert (REPOSITORY / line.split()[0]).is_file()
    assert all(re.fullmatch(r"[\w./-]+@v\d+", used) for used in steps(jobs, "uses"))
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())

import argparse
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.overhead import Round, summarise
from bench.report import Report, Target


def target(value: float, *, bound: float = 150.0, better: str = "lower") -> Target:
    return Target(name="overhead", value=value, bound=bound, better=better)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "better", "met"),
    [
        (149.9, "lower", True),
        (150.0, "lower", True),
        (150.1, "lower", False),
        (149.9, "higher", False),
        (150.0, "higher", True),
        (math.nan, "higher", False),
        (math.nan, "lower", False),
    ],
)
def test_a_target_is_met_or_not(value: float, better: str, met: bool) -> None:
    assert target(value, better=better).met is met


@pytest.mark.parametrize(("value", "check", "status"), [(1, True, 0), (1, False, 0), (151, True, 1), (151, False, 0)])
def test_only_with_check_an_unmet_target_is_a_failure(value: float, check: bool, status: int) -> None:
    console = Console(file=io.StringIO())
    options = argparse.Namespace(json=None, check=check)
    assert report.finish(Report(name="x", results={}, targets=[target(value)]), options, console=console) == status


def test_the_file_has_the_form_that_is_the_same_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["overhead.py", "--json", "new/file.json"])
    options = report.arguments("x").parse_args(["--json", str(tmp_path / "new" / "file.json")])
    report.finish(
        Report(name="overhead", results={"samples": [1.5]}, targets=[target(151)]),
        options,
        console=Console(file=io.StringIO()),
    )
    written = json.loads((tmp_path / "new" / "file.json").read_text())
    assert list(written) == ["name", "command", "commit", "machine", "versions", "results", "targets"]
    assert written["command"] == "python -m bench.overhead --json new/file.json"
    assert written["results"] == {"samples": [1.5]}
    assert written["targets"] == [{"name": "overhead", "value": 151, "bound": 150.0, "better": "lower", "met": False}]
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["grpcio"]


def test_the_machine_is_described_and_not_named() -> None:
    import socket  # noqa: PLC0415

    assert socket.gethostname() not in json.dumps(report.machine())


def test_the_commit_is_named_with_a_mark_when_the_tree_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    module = tmp_path / "report.py"
    module.write_text("")
    monkeypatch.setattr(report, "__file__", str(module))
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "x")
    assert report.commit() == git("rev-parse", "HEAD")
    module.write_text("changed")
    assert report.commit() == git("rev-parse", "HEAD") + "-dirty"


def test_outside_a_repository_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "__file__", str(tmp_path / "report.py"))
    assert report.commit() is None


def drawn(overhead_ms: float, *, same_picture: bool = True) -> Round:
    return Round(
        seed=7,
        generate_seconds=1 + overhead_ms / 1000,
        pipeline_seconds=1.0,
        phase_seconds={"queued": 0.01, "denoising": 1.0},
        same_picture=same_picture,
    )


def test_the_overhead_is_the_median_of_the_differences() -> None:
    summary = summarise([drawn(50), drawn(900), drawn(100)])
    overhead, same = summary.targets
    assert overhead.value == pytest.approx(100)
    assert (overhead.met, same.met) == (True, True)
    assert summary.results["overhead_ms"]["samples"] == pytest.approx([50, 900, 100])
    assert len(summary.results["rounds"]) == 3


def test_another_picture_than_the_stock_pipelines_fails_the_measurement() -> None:
    _, same = summarise([drawn(50), drawn(50, same_picture=False)]).targets
    assert not same.met

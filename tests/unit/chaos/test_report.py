"""The sum of several runs, and the sections of the docs that are made of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import report


def outcome(*, kills: int = 2, lost: int = 0, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "kills": kills,
        "accepted": 10,
        "lost": lost,
        "doubled": 0,
        "wrong": 0,
        "seed": 1,
        "command": "python -m tests.chaos",
        "commit": "abc",
        "machine": {"cores": 2, "load_1m": 1.5},
        "duration_seconds": 3600.0,
        "settings": {"EASEL_LEASE_SECONDS": "2", "pace_seconds": 2.0, "clients": 10},
        "states": {"SUCCEEDED": 9, "FAILED": 1},
        "attempts": {"SUCCEEDED": 9, "LOST": 2},
        "findings": [{"kind": "lost", "id": "x", "sentence": "gone"}] * lost,
        "strikes": [{"component": "nats", "action": "kill"}] * kills,
        "samples": [
            {"component": "nats", "action": "kill", "serving_seconds": 0.1, "recovery_seconds": seconds},
            {"component": "nats", "action": "wipe", "serving_seconds": 0.1, "recovery_seconds": None},
        ],
    }


def test_counts_are_added_and_times_are_pooled() -> None:
    merged = report.merge([outcome(seconds=1.0), outcome(kills=3, lost=1, seconds=5.0)])
    assert (merged["kills"], merged["accepted"], merged["lost"]) == (5, 20, 1)
    assert merged["states"] == {"SUCCEEDED": 18, "FAILED": 2}
    assert merged["recovery_seconds"] == {"nats": {"p50": 5.0, "p99": 5.0}}
    assert len(merged["findings"]) == 1


def test_a_finding_in_any_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, lost in enumerate((0, 1)):
        (tmp_path / f"seed-{number}.json").write_text(json.dumps(outcome(lost=lost)))
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path)])
    assert report.main() == 1


def test_no_outcomes_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path)])
    assert report.main() == 2


def test_the_docs_are_filled_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text("before\n<!-- campaign -->\nold\n<!-- end of campaign -->\nbetween\n")
    page.write_text(page.read_text() + "<!-- comparison -->\n<!-- end of comparison -->\nafter\n")
    (tmp_path / "seed-1.json").write_text(json.dumps(outcome()))
    compared = {
        "contenders": {},
        "command": "python -m …",
        "seed": 1,
        "kills": 3,
        "clients": 4,
        "patience_seconds": 90.0,
    }
    (tmp_path / "compare.json").write_text(json.dumps(compared))
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "PICTURE", picture)
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path), "--docs"])
    assert report.main() == 0
    text = page.read_text()
    assert "**2 kills, 10 accepted generations: 0 lost, 0 doubled, 0 wrong.**" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert picture.read_text().startswith("<?xml")

import subprocess
import sys
from pathlib import Path

import pytest

from inference.settings import WorkerSettings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    for name in WorkerSettings.model_fields:
        monkeypatch.delenv(f"EASEL_{name.upper()}", raising=False)


def test_every_field_is_described() -> None:
    assert [name for name, field in WorkerSettings.model_fields.items() if not field.description] == []


def test_wrong_settings_end_with_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EASEL_MODEL", " ")
    monkeypatch.setenv("EASEL_SLOTS", "-1")
    monkeypatch.setenv("EASEL_MODEL_NAME", "no slug!")

    with pytest.raises(SystemExit) as ended:
        WorkerSettings.read()

    assert ended.value.code == 2
    names = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert sorted(names) == ["EASEL_MODEL", "EASEL_MODEL_NAME", "EASEL_SLOTS"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EASEL_MODEL": ""}, "EASEL_MODEL: name a model: `postcard`, a folder"),
        ({"EASEL_MODEL": "./nowhere"}, "EASEL_MODEL: there is no folder ./nowhere"),
        ({"EASEL_MODEL": "org/model", "EASEL_S3_ENDPOINT": "nonsense"}, "EASEL_S3_ENDPOINT: an S3 endpoint looks like"),
    ],
)
def test_the_process_says_what_is_wrong_before_anything_slow(
    environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "inference"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert expected in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_arguments_are_refused_and_not_ignored() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "inference", "--nonsense"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: python -m inference")
    assert len(ended.stderr.splitlines()) == 1


def test_nothing_heavy_is_imported_for_settings() -> None:
    program = (
        "import sys, inference.bootstrap; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"

"""What is set outside is found where the settings of the services find it, and reaches the stack's workers."""

from pathlib import Path

import pytest

from easel.embedded.stack import DEFAULT_MODEL, Stack
from easel.environment import lookup


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder of our own, with nothing set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EASEL_MODEL", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# EASEL_MODEL=no\nEASEL_MODEL_NAME=no\n", None),
        ("EASEL_MODEL=\n", None),
        ("export EASEL_MODEL=one\n", "one"),
        ("EASEL_MODEL='one two' # the model\n", "one two"),
    ],
)
def test_the_file_is_read(folder: Path, content: str, expected: str | None) -> None:
    assert lookup("EASEL_MODEL") is None
    (folder / ".env").write_text(content)

    assert lookup("EASEL_MODEL") == expected


def test_the_environment_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("EASEL_MODEL=one\n")
    monkeypatch.setenv("EASEL_MODEL", "two")

    assert lookup("EASEL_MODEL") == "two"


def test_workers_draw_with_what_is_named_first(folder: Path) -> None:
    assert Stack(folder / "data").model == DEFAULT_MODEL
    (folder / ".env").write_text("EASEL_MODEL=one\n")

    assert Stack(folder / "data").model == "one"
    assert Stack(folder / "data", environment={"EASEL_MODEL": "two"}).model == "two"
    assert Stack(folder / "data", environment={"EASEL_MODEL": "two"}, model="three").model == "three"

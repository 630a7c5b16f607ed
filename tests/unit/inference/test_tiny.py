import hashlib
import json
import shutil
from pathlib import Path

import pytest

from inference import models, tiny


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_model_is_built_every_time(tiny_folder: Path, tmp_path: Path) -> None:
    again = tiny.build(tmp_path / "deep" / "tiny")

    assert fingerprints(again) == fingerprints(tiny_folder)
    assert [path.name for path in again.parent.iterdir()] == ["tiny"]


def test_a_model_that_is_there_is_left_alone(tiny_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_folder.rglob("*")}

    tiny.build(tiny_folder)

    assert {path: path.stat().st_mtime_ns for path in tiny_folder.rglob("*")} == before


def test_another_process_may_be_faster(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tiny"

    class SlowPipeline:
        def save_pretrained(self, unfinished: Path, **_given: object) -> None:
            shutil.copytree(tiny_folder, folder)
            (unfinished / "half").mkdir(parents=True)

    monkeypatch.setattr(tiny, "_pipeline", SlowPipeline)

    assert tiny.build(folder) == folder
    assert fingerprints(folder) == fingerprints(tiny_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_something_else_in_its_place_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "precious").touch()

    with pytest.raises(OSError, match="not empty"):
        tiny.build(tmp_path / "tiny")

    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_it_says_that_it_is_untrained_and_holds_safetensors_alone(tiny_folder: Path) -> None:
    assert "UNTRAINED" in json.loads((tiny_folder / models.CARD_FILE).read_text())["description"]
    assert {path.suffix for path in tiny_folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}

import shutil
from pathlib import Path

import pytest
import torch

from inference import models
from inference.models import ModelUnavailable
from tests.unit.inference.conftest import load


def test_the_bundled_model_is_found_from_anywhere(
    postcard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postcard").mkdir()
    monkeypatch.chdir(tmp_path)

    assert models.locate("postcard") == str(postcard_folder)


def test_a_folder_is_found(postcard_folder: Path) -> None:
    assert models.locate(str(postcard_folder)) == str(postcard_folder)


@pytest.mark.parametrize("model", ["stabilityai/sd-turbo", "stable-diffusion-v1-5/stable-diffusion-v1-5"])
def test_a_hub_id_is_taken_as_it_is(model: str) -> None:
    assert models.locate(model) == model


@pytest.mark.parametrize("model", ["no-such-model", "./models/mine", "/no/such/folder", "~/no-such-folder"])
def test_a_missing_folder_says_what_can_be_named(model: str) -> None:
    with pytest.raises(models.ModelUnavailable, match=r"hub id such as .*, or postcard, which is bundled"):
        models.locate(model)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(models.ModelUnavailable, match="diffusers' layout"):
        models.locate(str(tmp_path))


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()

    with pytest.raises(models.ModelUnavailable, match="single-file"):
        models.locate(str(tmp_path / "model.ckpt"))


def test_pickles_are_refused(postcard_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(postcard_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))

    with pytest.raises(models.ModelUnavailable, match="cannot be loaded"):
        load(folder)


def test_a_hub_id_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(models.ModelUnavailable) as refused:
        load("nobody/nothing")

    assert "nobody/nothing is no local folder and could not be had from the hub" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_device_that_is_not_there_is_refused(postcard_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: PLC0415

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(models.ModelUnavailable, match="EASEL_DEVICE"):
        load(postcard_folder, device="cuda")


def test_a_device_that_cannot_hold_it_is_told(postcard_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_arguments: object, **_more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 16 GiB")

    monkeypatch.setattr(models, "_place", run_out)
    with pytest.raises(ModelUnavailable, match="cannot be put on cpu: CUDA out of memory"):
        load(postcard_folder, device="cpu")


def test_a_card_is_read(postcard_folder: Path, tmp_path: Path) -> None:
    assert models.read_card(str(postcard_folder)).default_steps == 20
    assert models.read_card(str(tmp_path)) == models.Card()
    assert models.read_card("org/model") == models.Card()


@pytest.mark.parametrize("text", ["[]", "{", '{"nmae": "tiny"}', '{"defaults": {"stepz": 1}}', '{"defaults": 3}'])
def test_a_wrong_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / models.CARD_FILE).write_text(text)

    with pytest.raises(models.ModelUnavailable, match="not as it should be"):
        models.read_card(str(tmp_path))


@pytest.mark.parametrize(("card", "given", "used"), [(1, 2, 1), (4, 2, 2), (1, 0, 1), (None, 2, 2), (None, 0, 0)])
def test_threads_are_capped_by_what_pays(card: int | None, given: int, used: int) -> None:
    assert models.Card(max_threads=card).cap_threads(given) == used


@pytest.mark.parametrize("name", models.BUNDLED)
def test_a_bundled_model_goes_by_its_name_and_holds_safetensors_alone(name: str) -> None:
    folder = models.BUNDLED[name]

    assert models.read_card(str(folder)).name == name
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".md", ".safetensors"}

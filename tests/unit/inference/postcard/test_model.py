"""The bundled model, as anybody would load it who knows diffusers and nothing of us, draws what it is asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from inference import models
from inference.postcard import evaluate
from inference.postcard.judge import Judge
from inference.postcard.world import Colour, Ground, Shape, Sky, Subject
from tests.unit.inference.conftest import TORCH_THREADS

MOST_BYTES = 16 * 2**20
STEPS, GUIDANCE_SCALE = 12, 4.0


@pytest.fixture(scope="module")
def pipeline(postcard_folder: Path) -> Any:
    torch.set_num_threads(TORCH_THREADS)
    pipeline = StableDiffusionPipeline.from_pretrained(postcard_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def judge(postcard_folder: Path) -> Judge:
    return Judge.load(postcard_folder)


def draw(pipeline: Any, prompts: Sequence[str], *, negative: str = "", first_seed: int = 0) -> torch.Tensor:
    pictures = pipeline(
        list(prompts),
        negative_prompt=[negative] * len(prompts),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(first_seed + index) for index in range(len(prompts))],
        output_type="pt",
    ).images
    return 2.0 * pictures - 1.0


def test_it_has_the_parts_of_the_big_ones(pipeline: Any) -> None:
    assert isinstance(pipeline.unet, UNet2DConditionModel)
    assert isinstance(pipeline.vae, AutoencoderKL)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)


def test_it_is_small(postcard_folder: Path) -> None:
    assert sum(path.stat().st_size for path in postcard_folder.rglob("*") if path.is_file()) <= MOST_BYTES


def test_its_defaults_are_those_it_is_measured_with(postcard_folder: Path) -> None:
    card = json.loads((postcard_folder / models.CARD_FILE).read_text())

    assert card["defaults"] == {"steps": evaluate.STEPS, "guidance_scale": evaluate.GUIDANCE_SCALE}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a sunset over a beach", {"sky": Sky.SUNSET, "ground": Ground.BEACH, "subject": None}),
        ("A Renaissance castle in the Loire Valley", {"ground": Ground.HILLS, "subject": Subject.CASTLE}),
        (
            "a red lighthouse by the sea at night",
            {"sky": Sky.NIGHT, "subject": Subject.LIGHTHOUSE, "colour": Colour.RED},
        ),
        ("windmill, wheat field", {"ground": Ground.FIELD, "subject": Subject.WINDMILL}),
        ("A STORM OVER THE CITY", {"sky": Sky.STORM, "ground": Ground.CITY}),
        (
            "a red circle on a blue background",
            {"subject": Shape.CIRCLE, "colour": Colour.RED, "background": Colour.BLUE, "sky": None},
        ),
        ("qwrtz a tent xylophonic in the snow 東京 🎨", {"ground": Ground.SNOW, "subject": Subject.TENT}),
    ],
)
def test_it_draws_what_it_is_asked(pipeline: Any, judge: Judge, prompt: str, expected: dict[str, object]) -> None:
    seen = judge.look(draw(pipeline, [prompt] * 4))

    as_asked = [one for one in seen if {name: one[name] for name in expected} == expected]
    assert len(as_asked) >= 3, seen


def test_a_negative_prompt_keeps_things_away(pipeline: Any, judge: Judge) -> None:
    def skies(negative: str) -> list[object]:
        return [one["sky"] for one in judge.look(draw(pipeline, ["a beach"] * 16, negative=negative))]

    assert skies("").count(Sky.DAY) >= 2
    assert skies("a sunny day, blue sky").count(Sky.DAY) == 0


def test_a_seed_repeats_and_others_differ(pipeline: Any) -> None:
    first, again, other = (draw(pipeline, ["a house"], first_seed=seed)[0] for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.02


def test_a_prompt_may_be_empty_or_too_long(pipeline: Any, judge: Judge) -> None:
    empty, long = judge.look(draw(pipeline, ["", "a red house in the snow" + " and more" * 200]))

    assert empty
    assert (long["ground"], long["subject"]) == (Ground.SNOW, Subject.HOUSE)


def test_the_evaluation_asks_for_what_training_never_saw(postcard_folder: Path) -> None:
    report = evaluate.evaluate(postcard_folder, count=evaluate.BATCH)

    assert report["prompts"] == evaluate.BATCH
    for name in evaluate.BOUNDS:
        assert 0.6 <= report[name] <= 1
    assert report["seconds"] > 0


def test_the_evaluation_counts_only_what_was_asked_for() -> None:
    asked = [{"sky": Sky.DAY, "ground": None, "subject": Shape.STAR, "colour": Colour.RED, "background": Colour.BLUE}]
    shown = [{"sky": Sky.DAY, "ground": Ground.SEA, "subject": Shape.HEART, "colour": Colour.RED, "background": None}]

    assert evaluate._shares(asked, shown) == {"sky": 1.0, "subject": 0.0, "colour": 0.5}

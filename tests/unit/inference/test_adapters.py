"""The adapters give what the stock pipeline gives."""

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline
from loguru import logger

from inference import models
from inference.engine.adapter import Adapter, DeviceLost, InvalidOutput, OutOfMemory, StepAdapter, WholeAdapter
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.pipelines import device_errors
from inference.engine.whole_call import WholeCallAdapter
from tests.unit.inference import tiny_models
from tests.unit.inference.alone import denoise, draw
from tests.unit.inference.conftest import load
from tests.unit.inference.scripted_adapter import draw_request

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

#: The names of classes as a user would write them, apart from our table.
CLASSES = {
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
}


def draw_with_stock(pipeline: Any, request: DrawRequest) -> Pixels:
    """Draw it as anybody would who knows diffusers and nothing of us."""
    if request.scheduler in CLASSES:
        scheduler_class = getattr(diffusers, CLASSES[request.scheduler])
        extra = {"skip_prk_steps": True} if request.scheduler == "pndm" else {}
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **extra)
    without_negative = isinstance(pipeline, LatentConsistencyModelPipeline)
    negative = {} if without_negative else {"negative_prompt": request.negative_prompt or None}
    picture = pipeline(
        request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        **negative,
    ).images[0]
    return np.asarray(picture)


@pytest.fixture(scope="module")
def loaded_pipeline(postcard_folder: Path) -> Any:
    """Load the model as anybody would who knows diffusers and nothing of us."""
    pipeline = StableDiffusionPipeline.from_pretrained(postcard_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline(loaded_pipeline: Any) -> Iterator[Any]:
    saved = loaded_pipeline.scheduler
    yield loaded_pipeline
    loaded_pipeline.scheduler = saved


@pytest.fixture(scope="module")
def whole_call_adapter(postcard_folder: Path) -> Adapter:
    pipeline = StableDiffusionPipeline.from_pretrained(postcard_folder)
    pipeline.set_progress_bar_config(disable=True)
    return WholeCallAdapter(pipeline, name="whole")


REQUESTS = [
    *(draw_request(scheduler=name, steps=5) for name in CLASSES),
    draw_request(guidance_scale=1.0),
    draw_request(guidance_scale=0.0, scheduler="euler_a"),
    draw_request(negative_prompt="rain", prompt="é 雨 " * 60, width=96, height=72, seed=2**53 - 1),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.scheduler}-{one.guidance_scale}-{one.width}")
def test_the_picture_equals_the_stock_pipelines_bit_for_bit(
    postcard_adapter: Adapter, pipeline: Any, request_: DrawRequest
) -> None:
    assert np.array_equal(draw(postcard_adapter, request_), draw_with_stock(pipeline, request_))


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_every_family_draws_what_its_stock_pipeline_draws(tmp_path: Path, family: str, guidance_scale: float) -> None:
    folder = tiny_models.make(family, tmp_path / family)
    stock = diffusers.DiffusionPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    adapter = load(folder)
    for negative_prompt in ("", "rain"):
        request = draw_request(
            width=16,
            height=24,
            steps=5,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            scheduler=adapter.traits.default_scheduler,
        )
        assert np.array_equal(draw(adapter, request), draw_with_stock(stock, request))


@pytest.mark.parametrize("request_", REQUESTS[:3] + REQUESTS[-2:], ids=lambda one: f"{one.scheduler}-{one.width}")
def test_a_whole_call_gives_the_same(
    whole_call_adapter: Adapter, postcard_adapter: Adapter, request_: DrawRequest
) -> None:
    assert np.array_equal(draw(whole_call_adapter, request_), draw(postcard_adapter, request_))


@pytest.mark.parametrize(
    "changed", [{"prompt": "a boat"}, {"seed": 8}, {"negative_prompt": "rain"}, {"guidance_scale": 3.0}, {"steps": 5}]
)
def test_every_parameter_changes_the_picture(postcard_adapter: Adapter, changed: dict[str, object]) -> None:
    assert not np.array_equal(draw(postcard_adapter, draw_request()), draw(postcard_adapter, draw_request(**changed)))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.scheduler}-{one.guidance_scale}-{one.width}")
def test_looking_at_a_picture_on_its_way_changes_no_bit_of_it(
    postcard_adapter: StepAdapter, pipeline: Any, request_: DrawRequest
) -> None:
    previews: list[Any] = []
    state = denoise(postcard_adapter, request_, look=lambda state: previews.append(postcard_adapter.preview(state)))

    assert np.array_equal(postcard_adapter.decode([state])[0], draw_with_stock(pipeline, request_))
    assert len(previews) >= request_.steps
    sides = (request_.height // 2, request_.width // 2, 3)
    assert all(preview.shape == sides for preview in previews)
    assert not any(np.array_equal(*pair) for pair in pairwise(previews[:: len(previews) // 3]))


def test_a_decoder_that_cannot_be_stood_in_for_leaves_the_model_without_previews(
    postcard_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = load(postcard_folder)
    vae = adapter._pipeline.vae
    decode = vae.decode
    # The first picture is that of the warm-up.
    answers = iter([decode, lambda *_given, **_named: (torch.full((16, 3, 64, 64), torch.nan),)])

    def answer(*given: Any, **named: Any) -> Any:
        return next(answers)(*given, **named)

    monkeypatch.setattr(vae, "decode", answer)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["extra"]["action"]))

    adapter.warm_up()

    logger.remove(sink)
    monkeypatch.undo()
    assert not adapter.traits.previews
    assert lines == ["no_previews"]
    assert adapter.preview(denoise(adapter, draw_request())) is None
    assert np.array_equal(draw(adapter, draw_request()), draw(adapter, draw_request()))


def test_only_what_is_cut_at_its_steps_has_previews(
    postcard_adapter: StepAdapter, whole_call_adapter: WholeAdapter
) -> None:
    whole_call_adapter.warm_up()

    assert postcard_adapter.traits.previews
    assert not whole_call_adapter.traits.previews


def test_pictures_have_colour_and_structure(postcard_adapter: Adapter) -> None:
    picture = draw(postcard_adapter, draw_request(width=128, height=128, steps=10))

    assert picture.std(axis=(0, 1)).min() > 15
    assert np.abs(picture[..., 0].astype(int) - picture[..., 2]).mean() > 15


def test_without_guidance_no_negative_prompt_is_encoded(postcard_adapter: StepAdapter) -> None:
    assert len(postcard_adapter.encode(draw_request(guidance_scale=1.0))) == 1
    assert len(postcard_adapter.encode(draw_request(guidance_scale=1.1))) == 2


def test_what_was_encoded_is_not_encoded_again(postcard_folder: Path) -> None:
    adapter: Any = load(postcard_folder)
    adapter.encode(draw_request(prompt="a boat", negative_prompt="rain"))
    adapter._pipeline.encode_prompt = None

    again = adapter.encode(draw_request(prompt="a boat", negative_prompt="rain"))

    assert len(again) == 2
    with pytest.raises(TypeError):
        adapter.encode(draw_request(prompt="a boat", negative_prompt="snow"))


def test_a_picture_of_no_numbers_is_refused(
    postcard_adapter: StepAdapter, whole_call_adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = draw_request()
    state: Any = postcard_adapter.begin(request, postcard_adapter.encode(request), seed=1)
    state.latents = torch.full_like(state.latents, torch.nan)
    with pytest.raises(InvalidOutput):
        postcard_adapter.decode([state])

    vae = whole_call_adapter._pipeline.vae
    monkeypatch.setattr(vae, "decode", lambda *_given, **_named: (torch.full((1, 3, 64, 64), torch.nan),))
    with pytest.raises(InvalidOutput):
        draw(whole_call_adapter, request)


def test_errors_of_the_device_are_told_apart() -> None:
    def failing_with(error: Exception) -> None:
        with device_errors():
            raise error

    with pytest.raises(OutOfMemory):
        failing_with(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(OutOfMemory):
        failing_with(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e15 bytes"))
    with pytest.raises(DeviceLost):
        failing_with(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="shape"):
        failing_with(RuntimeError("shape mismatch"))


def test_a_request_too_large_for_the_memory_fails_as_such(postcard_adapter: Adapter) -> None:
    with pytest.raises(OutOfMemory):
        draw(postcard_adapter, draw_request(width=2**22, height=2**22))


def test_a_pipeline_that_cannot_be_watched_is_refused(postcard_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(postcard_folder, broken)
    index = json.loads((broken / models.INDEX_FILE).read_text())
    index["_class_name"] = "DDPMPipeline"
    (broken / models.INDEX_FILE).write_text(json.dumps(index))

    with pytest.raises(models.ModelUnavailable):
        load(broken)

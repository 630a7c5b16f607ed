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
from diffusers import StableDiffusionPipeline
from loguru import logger

from inference import models
from inference.engine.adapter import DeviceLost, InvalidOutput, ModelAdapter, OutOfMemory
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.pipelines import device_errors
from inference.engine.whole_call import WholeCallAdapter
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


def draw(adapter: ModelAdapter, request: DrawRequest, *, index: int = 0) -> Pixels:
    latents = adapter.denoise(
        request, adapter.encode(request), seed=request.seed + index, on_evaluation=lambda *_evaluation: None
    )
    return adapter.decode(latents)


def draw_with_stock(pipeline: Any, request: DrawRequest) -> Pixels:
    scheduler_class = getattr(diffusers, CLASSES[request.scheduler])
    extra = {"skip_prk_steps": True} if request.scheduler == "pndm" else {}
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **extra)
    picture = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
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
def whole_call_adapter(postcard_folder: Path) -> ModelAdapter:
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
    postcard_adapter: ModelAdapter, pipeline: Any, request_: DrawRequest
) -> None:
    assert np.array_equal(draw(postcard_adapter, request_), draw_with_stock(pipeline, request_))


@pytest.mark.parametrize("request_", REQUESTS[:3] + REQUESTS[-2:], ids=lambda one: f"{one.scheduler}-{one.width}")
def test_a_whole_call_gives_the_same(
    whole_call_adapter: ModelAdapter, postcard_adapter: ModelAdapter, request_: DrawRequest
) -> None:
    assert np.array_equal(draw(whole_call_adapter, request_), draw(postcard_adapter, request_))


@pytest.mark.parametrize(
    "changed", [{"prompt": "a boat"}, {"seed": 8}, {"negative_prompt": "rain"}, {"guidance_scale": 3.0}, {"steps": 5}]
)
def test_every_parameter_changes_the_picture(postcard_adapter: ModelAdapter, changed: dict[str, object]) -> None:
    assert not np.array_equal(draw(postcard_adapter, draw_request()), draw(postcard_adapter, draw_request(**changed)))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.scheduler}-{one.guidance_scale}-{one.width}")
def test_looking_at_a_picture_on_its_way_changes_no_bit_of_it(
    postcard_adapter: ModelAdapter, pipeline: Any, request_: DrawRequest
) -> None:
    previews: list[Any] = []
    latents = postcard_adapter.denoise(
        request_,
        postcard_adapter.encode(request_),
        seed=request_.seed,
        on_evaluation=lambda _done, _all, sketch: previews.append(postcard_adapter.preview(sketch)),
    )

    assert np.array_equal(postcard_adapter.decode(latents), draw_with_stock(pipeline, request_))
    assert len(previews) >= request_.steps
    sides = (request_.height // 2, request_.width // 2, 3)
    assert all(preview.shape == sides for preview in previews)
    assert not any(np.array_equal(*pair) for pair in pairwise(previews[:: len(previews) // 3]))


def test_a_decoder_that_cannot_be_stood_in_for_leaves_the_model_without_previews(
    postcard_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = models.load(str(postcard_folder), device="cpu", dtype="auto", threads=1)
    vae = adapter._pipeline.parts.vae
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
    assert adapter.preview(None) is None
    assert np.array_equal(draw(adapter, draw_request()), draw(adapter, draw_request()))


def test_only_what_has_a_seam_has_previews(postcard_adapter: ModelAdapter, whole_call_adapter: ModelAdapter) -> None:
    whole_call_adapter.warm_up()

    assert postcard_adapter.traits.previews
    assert not whole_call_adapter.traits.previews
    assert whole_call_adapter.preview(None) is None


def test_pictures_have_colour_and_structure(postcard_adapter: ModelAdapter) -> None:
    picture = draw(postcard_adapter, draw_request(width=128, height=128, steps=10))

    assert picture.std(axis=(0, 1)).min() > 15
    assert np.abs(picture[..., 0].astype(int) - picture[..., 2]).mean() > 15


def test_without_guidance_no_negative_prompt_is_encoded(postcard_adapter: ModelAdapter) -> None:
    assert postcard_adapter.encode(draw_request(guidance_scale=1.0))["negative_prompt_embeds"] is None


def test_a_picture_of_no_numbers_is_refused(postcard_adapter: ModelAdapter, whole_call_adapter: ModelAdapter) -> None:
    with pytest.raises(InvalidOutput):
        postcard_adapter.decode(torch.full((1, 8, 8, 8), torch.nan))
    with pytest.raises(InvalidOutput):
        whole_call_adapter.decode(np.full((1, 8, 8, 3), np.nan))


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


def test_a_request_too_large_for_the_memory_fails_as_such(postcard_adapter: ModelAdapter) -> None:
    with pytest.raises(OutOfMemory):
        draw(postcard_adapter, draw_request(width=2**22, height=2**22))


def test_a_pipeline_that_cannot_be_watched_is_refused(postcard_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(postcard_folder, broken)
    index = json.loads((broken / models.INDEX_FILE).read_text())
    index["_class_name"] = "DDPMPipeline"
    (broken / models.INDEX_FILE).write_text(json.dumps(index))

    with pytest.raises(models.ModelUnavailable):
        models.load(str(broken), device="cpu", dtype="auto", threads=1)

"""What makes a model faster or smaller on some devices changes nothing of what it draws, or next to nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from loguru import logger
from pydantic import ValidationError

from inference.engine.engine import Pixels
from inference.settings import WorkerSettings
from tests.unit.inference import tiny_models
from tests.unit.inference.alone import draw
from tests.unit.inference.conftest import load
from tests.unit.inference.scripted_adapter import draw_request
from tests.unit.inference.scripted_gateway import eventually

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

REQUEST = draw_request(width=16, height=16, steps=4, scheduler="euler")


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Pixels:
    return draw(load(folder), REQUEST)


@pytest.mark.parametrize(("offload", "trace"), [("model", "_hf_hook"), ("layers", "_diffusers_hook")])
def test_a_model_that_waits_elsewhere_draws_the_same(folder: Path, plain: Pixels, offload: str, trace: str) -> None:
    adapter: Any = load(folder, offload=offload)
    adapter.warm_up()

    assert np.array_equal(draw(adapter, REQUEST), plain)
    assert any(hasattr(part, trace) for part in adapter._pipeline.unet.modules())


def test_another_order_of_the_weights_differs_by_rounding(folder: Path, plain: Pixels) -> None:
    adapter: Any = load(folder, channels_last=True)

    picture = draw(adapter, REQUEST)

    assert adapter._pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(picture.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_draws_nearly_the_same(folder: Path, plain: Pixels, dtype: str) -> None:
    adapter: Any = load(folder, dtype=dtype)

    picture = draw(adapter, REQUEST)

    assert adapter._pipeline.unet.dtype == getattr(torch, dtype)
    # The decoder of SDXL overflows in half precision.
    is_upcast = dtype == "float16" and adapter.traits.family == "StableDiffusionXLPipeline"
    assert adapter._pipeline.vae.dtype == (torch.float32 if is_upcast else getattr(torch, dtype))
    assert np.abs(picture.astype(int) - plain).mean() < 8


@pytest.fixture
def compile_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose what compiles: the default takes half a minute, and a compiler of C++."""
    compile_all = UNet2DConditionModel.compile_repeated_blocks

    def choose(backend: str) -> None:
        def compile_by(denoiser: Any, **settings: Any) -> None:
            compile_all(denoiser, backend=backend, **settings)

        monkeypatch.setattr(UNet2DConditionModel, "compile_repeated_blocks", compile_by)

    return choose


async def test_a_compiled_denoiser_takes_over_when_it_is_ready(
    folder: Path, plain: Pixels, compile_with: Callable[[str], None]
) -> None:
    compile_with("eager")
    adapter: Any = load(folder, compile=True)
    adapter.warm_up()
    adapter.tune()
    assert np.abs(draw(adapter, REQUEST).astype(int) - plain).max() <= 1

    await eventually(lambda: adapter._denoiser is not adapter._pipeline.unet)

    assert np.abs(draw(adapter, REQUEST).astype(int) - plain).max() <= 1
    weights, twins = (dict(one.named_parameters()) for one in (adapter._pipeline.unet, adapter._denoiser))
    assert {name: one.data_ptr() for name, one in weights.items()} == {
        name.replace("._orig_mod", ""): one.data_ptr() for name, one in twins.items()
    }


async def test_what_cannot_be_compiled_stays_as_it_is(
    folder: Path, plain: Pixels, compile_with: Callable[[str], None]
) -> None:
    compile_with("no such compiler")
    lines: list[object] = []
    sink = logger.add(lambda line: lines.append(line.record["extra"].get("action")), level="WARNING")
    adapter: Any = load(folder, compile=True)
    adapter.warm_up()
    adapter.tune()

    await eventually(lambda: "compile" in lines)

    logger.remove(sink)
    assert adapter._denoiser is adapter._pipeline.unet
    assert np.array_equal(draw(adapter, REQUEST), plain)


def test_what_is_compiled_stays_on_its_device() -> None:
    with pytest.raises(ValidationError, match="cannot leave the GPU"):
        WorkerSettings(compile=True, offload="model")

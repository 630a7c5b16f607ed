"""The linear stand-in for a decoder shows roughly what the decoder does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch.nn import functional

from inference.engine.adapter import StepAdapter
from inference.engine.engine import Pixels
from inference.engine.preview_decoder import MAX_SIDE_PIXELS, Decode, PreviewDecoder, Unfit
from inference.engine.sketch import Sketch
from tests.unit.inference.alone import denoise
from tests.unit.inference.scripted_adapter import draw_request

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

#: Takes what it is given for the picture.
AS_IT_IS = DDIMScheduler(prediction_type="sample")
CPU = torch.device("cpu")


def decoder_of(vae: Any) -> Decode:
    def decode(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            decoded: torch.Tensor = vae.decode(latents / vae.config.scaling_factor).sample
        return decoded

    return decode


def fit(decode: Decode, *, dtype: torch.dtype = torch.float32) -> PreviewDecoder:
    return PreviewDecoder.fit(decode, channels=4, device=CPU, dtype=dtype)


def untrained_decoder(*, levels: int) -> Decode:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae = AutoencoderKL(
            block_out_channels=(16,) * levels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=8,
        )
    return decoder_of(vae.eval())


def smooth_latents(side: int) -> torch.Tensor:
    noise = torch.randn(1, 4, side // 2, side // 2, generator=torch.Generator().manual_seed(5))
    smooth = functional.interpolate(noise, size=(side, side), mode="bicubic")
    return smooth / smooth.std()


def shrunk(picture: torch.Tensor, *, side: int) -> Any:
    return ((functional.adaptive_avg_pool2d(picture, side)[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy()


def error(shown: Any, wanted: Any) -> float:
    return float(np.square(shown.astype(float) - wanted).mean())


@pytest.mark.parametrize(("levels", "block"), [(4, 4), (3, 4), (2, 2), (1, 1)])
def test_a_preview_comes_closer_to_the_picture_than_its_mean_colour(levels: int, block: int) -> None:
    decode = untrained_decoder(levels=levels)
    latents = smooth_latents(16)

    preview = fit(decode)(latents)

    wanted = shrunk(decode(latents), side=16 * block)
    assert preview.shape == wanted.shape
    assert error(preview, wanted) < 0.8 * error(wanted.mean(axis=(0, 1)), wanted)


def test_what_postcard_draws_can_be_seen_halfway(postcard_adapter: StepAdapter) -> None:
    sketches: list[Sketch] = []
    request = draw_request(width=128, height=128, steps=10)

    state = denoise(postcard_adapter, request, look=lambda state: sketches.append(state.sketch))

    (picture,) = postcard_adapter.decode([state])
    drawn = torch.from_numpy(picture / 127.5 - 1).permute(2, 0, 1)[None]
    wanted = shrunk(drawn, side=64)
    plain = error(wanted.mean(axis=(0, 1)), wanted)
    halfway = sketches[len(sketches) // 2]
    state.sketch = halfway
    preview = postcard_adapter.preview(state)
    assert preview is not None
    assert error(preview, wanted) < 0.9 * plain
    # What the model takes for the picture tells more than the picture as it is, with its noise.
    state.sketch = replace(halfway, prediction=halfway.noisy_latents, scheduler=AS_IT_IS)
    noisy = postcard_adapter.preview(state)
    assert error(preview, wanted) < 0.9 * error(noisy, wanted)


def test_a_decoder_that_is_linear_is_met_exactly() -> None:
    kernel = torch.randn(3, 4, 1, 1, generator=torch.Generator().manual_seed(2)) / 8

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(functional.conv2d(latents, kernel) + 0.25, scale_factor=8)

    latents = smooth_latents(32)

    assert np.abs(fit(decode)(latents) - shrunk(decode(latents), side=128)).max() < 3


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(64, 64, (256, 256, 3)), (128, 96, (256, 192, 3)), (8, 12, (32, 48, 3)), (1, 300, (1, 256, 3))],
)
def test_no_side_is_longer_than_it_may_be(height: int, width: int, shape: tuple[int, int, int]) -> None:
    preview = fit(untrained_decoder(levels=4))(torch.zeros(1, 4, height, width))

    assert preview.shape == shape
    assert max(preview.shape) <= MAX_SIDE_PIXELS
    assert preview.dtype == np.uint8


def test_latents_of_half_precision_give_the_same() -> None:
    decode = untrained_decoder(levels=2)
    latents = smooth_latents(8)
    half: Pixels = fit(lambda one: decode(one.float()).half(), dtype=torch.float16)(latents.half())

    assert np.abs(half.astype(int) - fit(decode)(latents)).max() <= 2


def test_what_is_no_number_is_shown_as_something() -> None:
    assert fit(untrained_decoder(levels=2))(torch.full((1, 4, 8, 8), torch.nan)).shape == (16, 16, 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_decoder_that_gives_no_numbers_cannot_be_stood_in_for(value: float) -> None:
    def decode(latents: torch.Tensor) -> torch.Tensor:
        return torch.full((len(latents), 3, 64, 64), value)

    with pytest.raises(Unfit):
        fit(decode)

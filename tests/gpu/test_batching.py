"""Pictures drawn together on a GPU, in the precisions that are used there."""

import random

import numpy as np
import pytest
import torch

from tests.unit.inference.studio import (
    MOST_ROWS,
    NAMES,
    Studio,
    difference,
    neighbours,
    picture_of,
    small,
    stock_latents,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

#: How far latents may be from those drawn alone, as a share of the largest: rounding adds up over the steps.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-2, torch.float16: 0.1, torch.bfloat16: 0.3}
HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_beside_others_it_is_what_the_stock_pipeline_draws(
    device: str, family: str, name: str, dtype: torch.dtype
) -> None:
    drawn = small(prompt="a castle", steps=7, guidance_scale=5.0, scheduler=name, seed=1)
    start = NAMES.index(name)
    studio = Studio(family, dtype, device=device)

    studio.draw([drawn, *neighbours([*NAMES[start:], *NAMES[:start]])], joins=[2, 0, 1, 3])

    assert studio.largest_batch > 2
    stock = stock_latents(family, drawn, dtype, device=device)
    assert difference(studio.latents[1].double(), stock.double()) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("family", ["sd", "sdxl", "lcm"])
def test_alone_it_is_the_stock_pipelines_bit_for_bit(device: str, family: str, dtype: torch.dtype) -> None:
    request = small(prompt="a castle", steps=5, scheduler="lcm" if family == "lcm" else "euler_a", seed=1)
    studio = Studio(family, dtype, device=device)

    studio.draw([request])

    assert torch.equal(studio.latents[1], stock_latents(family, request, dtype, device=device))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_with_fixed_batches_no_bit_depends_on_the_others(device: str, dtype: torch.dtype, seed: int) -> None:
    chosen = random.Random(seed)
    request = small(prompt="a castle", steps=5, scheduler=chosen.choice(NAMES), seed=1)
    (alone,) = Studio("sd", dtype, fixed_rows=MOST_ROWS, device=device).draw([request])
    company = [request, *neighbours(chosen.sample(NAMES, 3))]
    chosen.shuffle(company)

    ends = Studio("sd", dtype, fixed_rows=MOST_ROWS, device=device).draw(
        company, joins=[chosen.randrange(5) for _ in company]
    )

    assert np.array_equal(picture_of(ends[company.index(request)]), picture_of(alone))

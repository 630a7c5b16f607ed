"""Pictures drawn together: each comes out as it would alone, whoever else is there."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from inference.engine.adapter import OutOfMemory
from inference.engine.engine import Failed, Finished, Stopped
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

CASES = [
    *(("sd", name) for name in NAMES),
    *(("sdxl", name) for name in NAMES),
    ("sd-2", "dpmpp_2m"),
    ("sd-2", "euler"),
    ("sd-turbo", "euler"),
    ("lcm", "lcm"),
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_beside_others_it_is_what_the_stock_pipeline_draws(family: str, name: str) -> None:
    names = ["lcm"] if family == "lcm" else NAMES
    drawn = [
        small(prompt="a castle", steps=7, guidance_scale=5.0, scheduler=name, seed=1),
        small(prompt="a tree", steps=4, guidance_scale=0.0, scheduler=name, seed=2),
    ]
    start = names.index(name)
    others = neighbours([*names[start:], *names[:start]])
    studio = Studio(family)

    ends = studio.draw([*drawn, *others], joins=[2, 4, 0, 1, 3])

    assert all(isinstance(end, Finished) for end in ends)
    assert studio.largest_batch > 2
    for request in [*drawn, *others]:
        assert difference(studio.latents[request.seed], stock_latents(family, request)) < 1e-10


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_in_single_precision_no_pixel_differs_by_more_than_one(family: str) -> None:
    requests = [small(prompt="a castle", scheduler=name, steps=5, seed=seed) for seed, name in enumerate(NAMES)]

    together = Studio(family, torch.float32).draw(requests)

    for request, end in zip(requests, together, strict=True):
        (alone,) = Studio(family, torch.float32).draw([request])
        assert np.abs(picture_of(end).astype(int) - picture_of(alone)).max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(5))
def test_with_fixed_batches_no_bit_depends_on_the_others(dtype: torch.dtype, seed: int) -> None:
    chosen = random.Random(seed)
    request = small(prompt="a castle", steps=5, scheduler=chosen.choice(NAMES), seed=1)
    (alone,) = Studio("sd", dtype, fixed_rows=MOST_ROWS).draw([request])
    studio = Studio("sd", dtype, fixed_rows=MOST_ROWS)
    company = [request, *neighbours(chosen.sample(NAMES, 3)), *(small(seed=110 + one) for one in range(3))]
    chosen.shuffle(company)

    ends = studio.draw(company, joins=[chosen.randrange(5) for _ in company])

    end = ends[company.index(request)]
    assert np.array_equal(picture_of(end), picture_of(alone))


def test_who_leaves_changes_nothing_for_who_stays() -> None:
    staying, leaving = small(steps=8, scheduler="dpmpp_2m", seed=1), small(prompt="a boat", steps=20, seed=2)
    (undisturbed,) = Studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying])

    ended, stopped = Studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying, leaving], leaves={1: 4})

    assert isinstance(stopped, Stopped)
    assert np.array_equal(picture_of(ended), picture_of(undisturbed))


@pytest.mark.parametrize("scheduler", ["euler_a", "dpmpp_2m", "heun", "unipc"])
def test_who_fails_changes_nothing_for_who_stays(scheduler: str) -> None:
    """Its rows turn into no numbers, its scheduler fails, or the model fails over it again and again."""
    staying = small(steps=8, scheduler=scheduler, seed=1)
    (undisturbed,) = Studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying])
    studio = Studio("sd", torch.float32, fixed_rows=MOST_ROWS)
    studio.adapter.advance = spoil(studio, seed=2)
    studio.adapter.evaluate = poison(studio, seed=3)

    ended, spoilt, poisoned = studio.draw([staying, small(steps=8, seed=2), small(steps=8, seed=3)])

    assert isinstance(spoilt, Failed)
    assert isinstance(poisoned, Failed)
    assert np.array_equal(picture_of(ended), picture_of(undisturbed))


def spoil(studio: Studio, *, seed: int) -> Any:
    advance = studio.adapter.advance

    def advance_and_spoil(state: Any, prediction: Any) -> None:
        advance(state, prediction)
        if studio.seed_of(state) == seed and state.done == 3:
            state.latents = torch.full_like(state.latents, torch.nan)

    return advance_and_spoil


def poison(studio: Studio, *, seed: int) -> Any:
    evaluate = studio.adapter.evaluate

    def fail_over_one(states: Any) -> Any:
        predictions = evaluate(states)
        if any(studio.seed_of(state) == seed and state.done == 5 for state in states):
            raise RuntimeError("a kernel failed")
        return predictions

    return fail_over_one


def test_memory_that_does_not_suffice_for_many_suffices_for_fewer() -> None:
    requests = [small(steps=4, seed=seed, scheduler="euler") for seed in range(3)]
    studio = Studio("sd")
    evaluate = studio.adapter.evaluate

    def run_out_of_memory(states: Any) -> Any:
        if len(states) > 1:
            raise OutOfMemory("too little memory")
        return evaluate(states)

    studio.adapter.evaluate = run_out_of_memory

    ends = studio.draw(requests)

    assert all(isinstance(end, Finished) for end in ends)
    for request in requests:
        assert difference(studio.latents[request.seed], stock_latents("sd", request)) < 1e-10


def test_sizes_do_not_mix() -> None:
    requests = [small(seed=1), replace(small(seed=2), width=24), replace(small(seed=3), height=24)]
    studio = Studio("sd")

    ends = studio.draw(requests)

    assert [picture_of(end).shape[:2] for end in ends] == [(16, 16), (16, 24), (24, 16)]
    assert studio.largest_batch == 2

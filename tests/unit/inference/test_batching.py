"""Pictures drawn together: each comes out as it would alone, whoever else is there."""

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from inference import schedulers
from inference.engine.adapter import OutOfMemory
from inference.engine.batch_loop import BatchLoop
from inference.engine.cost_model import CostModel
from inference.engine.engine import FINAL_EVENTS, DrawRequest, Event, Failed, Finished, Stopped
from inference.engine.pulse import Pulse
from inference.engine.stable_diffusion import StableDiffusionAdapter
from inference.engine.stable_diffusion_xl import StableDiffusionXLAdapter
from tests.unit.inference import tiny_models
from tests.unit.inference.conftest import TORCH_THREADS
from tests.unit.inference.scripted_adapter import draw_request

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

MOST_ROWS = 7


@dataclass(eq=False)
class Recorded:
    """A drawing that remembers how it ended."""

    request: DrawRequest
    taken_at: float = 0.0
    cancelled: bool = False
    end: Event | None = None

    def emit(self, event: Event) -> None:
        assert self.end is None
        if isinstance(event, FINAL_EVENTS):
            self.end = event


@dataclass
class Studio:
    """An engine with a tiny model, without a thread: requests come at given ticks."""

    adapter: Any
    #: The latents of each finished picture, by the seed of its noise.
    latents: dict[int, torch.Tensor] = field(default_factory=dict)
    #: The seed of each state's noise.
    seeds: dict[int, int] = field(default_factory=dict)
    largest_batch: int = 0

    def draw(
        self, requests: Sequence[DrawRequest], *, joins: Sequence[int] = (), leaves: Mapping[int, int] | None = None
    ) -> list[Event]:
        """Draw requests, each from a tick on; some are cancelled at another."""
        loop = BatchLoop(self.adapter, EveryRowPays(), Pulse())
        drawings: list[Any] = [Recorded(request) for request in requests]
        waiting = dict(zip(drawings, joins or [0] * len(drawings), strict=True))
        tick = 0
        while waiting or not loop.is_idle:
            for drawing in [one for one, joins_at in waiting.items() if joins_at <= tick]:
                del waiting[drawing]
                loop.take(drawing)
            for index, leaves_at in (leaves or {}).items():
                drawings[index].cancelled = tick >= leaves_at
            loop.tick()
            tick += 1
        return [drawing.end for drawing in drawings]


class EveryRowPays(CostModel):
    """Has batches as large as may be, whatever the clock says."""

    def __init__(self) -> None:
        super().__init__(most_rows=MOST_ROWS)

    def seconds(self, key: Hashable, rows: int) -> float:
        return 1.0

    def cap(self, key: Hashable) -> int:
        return MOST_ROWS


@lru_cache
def pipeline_of(family: str, dtype: torch.dtype) -> Any:
    torch.set_num_threads(TORCH_THREADS)
    torch.manual_seed(5)
    pipeline = tiny_models.FAMILIES[family]().to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def make_studio() -> Any:
    def make(family: str, dtype: torch.dtype = torch.float64, *, fixed_rows: int = 0) -> Studio:
        pipeline = pipeline_of(family, dtype)
        kind = StableDiffusionXLAdapter if family == "sdxl" else StableDiffusionAdapter
        adapter: Any = kind(pipeline, name=family, cache_bytes=2**20, fixed_rows=fixed_rows)
        studio = Studio(adapter)
        begin, decode, evaluate = adapter.begin, adapter.decode, adapter.evaluate

        def note_and_begin(request: DrawRequest, conditioning: Any, *, seed: int) -> Any:
            state = begin(request, conditioning, seed=seed)
            studio.seeds[id(state)] = seed
            return state

        def keep_and_decode(states: Any) -> Any:
            studio.latents |= {studio.seeds[id(state)]: state.latents for state in states}
            return decode(states)

        def count_and_evaluate(states: Any) -> Any:
            studio.largest_batch = max(studio.largest_batch, sum(state.rows for state in states))
            return evaluate(states)

        adapter.begin, adapter.decode, adapter.evaluate = note_and_begin, keep_and_decode, count_and_evaluate
        return studio

    return make


def stock_latents(family: str, request: DrawRequest, dtype: torch.dtype) -> torch.Tensor:
    """Draw with the pipeline's own call, and stop before the decoder."""
    pipeline = pipeline_of(family, dtype)
    saved = pipeline.scheduler
    class_name, overrides = schedulers.TABLE[request.scheduler]
    if request.scheduler != schedulers.own_name(saved):
        pipeline.scheduler = getattr(diffusers, class_name).from_config(saved.config, **overrides)
    negative = {} if family == "lcm" else {"negative_prompt": request.negative_prompt or None}
    try:
        latents: torch.Tensor = pipeline(
            request.prompt,
            width=request.width,
            height=request.height,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
            output_type="latent",
            **negative,
        ).images
    finally:
        pipeline.scheduler = saved
    return latents


def small(**given: Any) -> DrawRequest:
    return draw_request(width=16, height=16, **given)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def neighbours(names: Sequence[str]) -> list[DrawRequest]:
    """Others that are there at the same time: of other lengths, guidance and schedulers."""
    return [
        small(prompt="a boat", steps=9, guidance_scale=1.0, scheduler=names[0], seed=101),
        small(prompt="rain", steps=3, guidance_scale=3.0, scheduler=names[1 % len(names)], seed=102),
        small(prompt="two dragons", negative_prompt="fog", steps=6, scheduler=names[2 % len(names)], seed=103),
    ]


NAMES = sorted(set(schedulers.TABLE) - {schedulers.DISTILLED})
CASES = [
    *(("sd", name) for name in NAMES),
    *(("sdxl", name) for name in NAMES),
    ("sd-2", "dpmpp_2m"),
    ("sd-2", "euler"),
    ("sd-turbo", "euler"),
    ("lcm", "lcm"),
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_beside_others_it_is_what_the_stock_pipeline_draws(make_studio: Any, family: str, name: str) -> None:
    names = ["lcm"] if family == "lcm" else NAMES
    drawn = [
        small(prompt="a castle", steps=7, guidance_scale=5.0, scheduler=name, seed=1),
        small(prompt="a tree", steps=4, guidance_scale=0.0, scheduler=name, seed=2),
    ]
    start = names.index(name)
    others = neighbours([*names[start:], *names[:start]])
    studio = make_studio(family)

    ends = studio.draw([*drawn, *others], joins=[2, 4, 0, 1, 3])

    assert all(isinstance(end, Finished) for end in ends)
    assert studio.largest_batch > 2
    for request in [*drawn, *others]:
        assert difference(studio.latents[request.seed], stock_latents(family, request, torch.float64)) < 1e-10


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_in_single_precision_no_pixel_differs_by_more_than_one(make_studio: Any, family: str) -> None:
    requests = [small(prompt="a castle", scheduler=name, steps=5, seed=seed) for seed, name in enumerate(NAMES)]

    together = make_studio(family, torch.float32).draw(requests)

    for request, end in zip(requests, together, strict=True):
        (alone,) = make_studio(family, torch.float32).draw([request])
        assert isinstance(end, Finished)
        assert isinstance(alone, Finished)
        assert np.abs(end.pictures[0].astype(int) - alone.pictures[0]).max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(5))
def test_with_fixed_batches_no_bit_depends_on_the_others(make_studio: Any, dtype: torch.dtype, seed: int) -> None:
    chosen = random.Random(seed)
    request = small(prompt="a castle", steps=5, scheduler=chosen.choice(NAMES), seed=1)
    (alone,) = make_studio("sd", dtype, fixed_rows=MOST_ROWS).draw([request])
    studio = make_studio("sd", dtype, fixed_rows=MOST_ROWS)
    company = [request, *neighbours(chosen.sample(NAMES, 3)), *(small(seed=110 + one) for one in range(3))]
    chosen.shuffle(company)

    ends = studio.draw(company, joins=[chosen.randrange(5) for _ in company])

    end = ends[company.index(request)]
    assert isinstance(alone, Finished)
    assert isinstance(end, Finished)
    assert np.array_equal(end.pictures[0], alone.pictures[0])


def test_who_leaves_changes_nothing_for_who_stays(make_studio: Any) -> None:
    staying, leaving = small(steps=8, scheduler="dpmpp_2m", seed=1), small(prompt="a boat", steps=20, seed=2)
    (undisturbed,) = make_studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying])

    ended, stopped = make_studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying, leaving], leaves={1: 4})

    assert isinstance(stopped, Stopped)
    assert np.array_equal(ended.pictures[0], undisturbed.pictures[0])


@pytest.mark.parametrize("scheduler", ["euler_a", "dpmpp_2m", "heun", "unipc"])
def test_who_fails_changes_nothing_for_who_stays(make_studio: Any, scheduler: str) -> None:
    """Its rows turn into no numbers, its scheduler fails, or the model fails over it again and again."""
    staying = small(steps=8, scheduler=scheduler, seed=1)
    (undisturbed,) = make_studio("sd", torch.float32, fixed_rows=MOST_ROWS).draw([staying])
    studio = make_studio("sd", torch.float32, fixed_rows=MOST_ROWS)
    studio.adapter.advance = spoil(studio, seed=2)
    studio.adapter.evaluate = poison(studio, seed=3)

    ended, spoilt, poisoned = studio.draw([staying, small(steps=8, seed=2), small(steps=8, seed=3)])

    assert isinstance(spoilt, Failed)
    assert isinstance(poisoned, Failed)
    assert np.array_equal(ended.pictures[0], undisturbed.pictures[0])


def spoil(studio: Studio, *, seed: int) -> Any:
    advance = studio.adapter.advance

    def advance_and_spoil(state: Any, prediction: Any) -> None:
        advance(state, prediction)
        if studio.seeds[id(state)] == seed and state.done == 3:
            state.latents = torch.full_like(state.latents, torch.nan)

    return advance_and_spoil


def poison(studio: Studio, *, seed: int) -> Any:
    evaluate = studio.adapter.evaluate

    def fail_over_one(states: Any) -> Any:
        predictions = evaluate(states)
        if any(studio.seeds[id(state)] == seed and state.done == 5 for state in states):
            raise RuntimeError("a kernel failed")
        return predictions

    return fail_over_one


def test_memory_that_does_not_suffice_for_many_suffices_for_fewer(make_studio: Any) -> None:
    requests = [small(steps=4, seed=seed, scheduler="euler") for seed in range(3)]
    studio = make_studio("sd")
    evaluate = studio.adapter.evaluate

    def run_out_of_memory(states: Any) -> Any:
        if len(states) > 1:
            raise OutOfMemory("too little memory")
        return evaluate(states)

    studio.adapter.evaluate = run_out_of_memory

    ends = studio.draw(requests)

    assert all(isinstance(end, Finished) for end in ends)
    for request in requests:
        assert difference(studio.latents[request.seed], stock_latents("sd", request, torch.float64)) < 1e-10


def test_sizes_do_not_mix(make_studio: Any) -> None:
    requests = [small(seed=1), replace(small(seed=2), width=24), replace(small(seed=3), height=24)]
    studio = make_studio("sd")

    ends = studio.draw(requests)

    assert [end.pictures[0].shape[:2] for end in ends] == [(16, 16), (16, 24), (24, 16)]
    assert studio.largest_batch == 2

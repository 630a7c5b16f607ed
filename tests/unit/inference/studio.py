"""A studio without a thread: an engine with a tiny model, whose requests come and go at given ticks."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import diffusers
import torch

from inference import schedulers
from inference.engine.batch_loop import BatchLoop
from inference.engine.cost_model import CostModel
from inference.engine.engine import FINAL_EVENTS, DrawRequest, Event, Finished, Pixels
from inference.engine.pulse import Pulse
from inference.engine.stable_diffusion import StableDiffusionAdapter
from inference.engine.stable_diffusion_xl import StableDiffusionXLAdapter
from tests.unit.inference import tiny_models
from tests.unit.inference.conftest import TORCH_THREADS
from tests.unit.inference.scripted_adapter import draw_request

MOST_ROWS = 7
#: The schedulers of ordinary models.
NAMES = sorted(set(schedulers.TABLE) - {schedulers.DISTILLED})


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


class Studio:
    """An engine with a tiny model, without a thread: requests come at given ticks."""

    def __init__(
        self, family: str, dtype: torch.dtype = torch.float64, *, fixed_rows: int = 0, device: str = "cpu"
    ) -> None:
        kind = StableDiffusionXLAdapter if family == "sdxl" else StableDiffusionAdapter
        self.adapter: Any = kind(
            pipeline_of(family, dtype, device), name=family, cache_bytes=2**20, fixed_rows=fixed_rows
        )
        #: The latents of each finished picture, by the seed of its noise.
        self.latents: dict[int, torch.Tensor] = {}
        self.largest_batch = 0
        self._seeds: dict[int, int] = {}
        self._listen_in()

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

    def seed_of(self, state: Any) -> int:
        """Say what the noise of a picture was made of."""
        return self._seeds[id(state)]

    def _listen_in(self) -> None:
        begin, decode, evaluate = self.adapter.begin, self.adapter.decode, self.adapter.evaluate

        def begin_and_note(request: DrawRequest, conditioning: Any, *, seed: int) -> Any:
            state = begin(request, conditioning, seed=seed)
            self._seeds[id(state)] = seed
            return state

        def keep_and_decode(states: Any) -> Any:
            self.latents |= {self.seed_of(state): state.latents for state in states}
            return decode(states)

        def count_and_evaluate(states: Any) -> Any:
            self.largest_batch = max(self.largest_batch, sum(state.rows for state in states))
            return evaluate(states)

        self.adapter.begin, self.adapter.decode, self.adapter.evaluate = (
            begin_and_note, keep_and_decode, count_and_evaluate,
        )  # fmt: skip


class EveryRowPays(CostModel):
    """Has batches as large as may be, whatever the clock says."""

    def __init__(self) -> None:
        super().__init__(most_rows=MOST_ROWS)

    def seconds(self, key: Hashable, rows: int) -> float:
        return 1.0

    def cap(self, key: Hashable) -> int:
        return MOST_ROWS


@lru_cache
def pipeline_of(family: str, dtype: torch.dtype, device: str) -> Any:
    """Make a tiny model, always the same."""
    torch.set_num_threads(TORCH_THREADS)
    torch.manual_seed(5)
    pipeline = tiny_models.FAMILIES[family]().to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_latents(
    family: str, request: DrawRequest, dtype: torch.dtype = torch.float64, *, device: str = "cpu"
) -> torch.Tensor:
    """Draw with the pipeline's own call, and stop before the decoder."""
    pipeline = pipeline_of(family, dtype, device)
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
    """Ask for a small picture."""
    return draw_request(width=16, height=16, **given)


def picture_of(end: Event) -> Pixels:
    """Give the picture of a request that was finished."""
    assert isinstance(end, Finished)
    (picture,) = end.pictures
    return picture


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Say how far latents are apart, as a share of the largest."""
    return float((one - other).abs().max() / other.abs().max())


def neighbours(names: Sequence[str]) -> list[DrawRequest]:
    """Others that are there at the same time: of other lengths, guidance and schedulers."""
    return [
        small(prompt="a boat", steps=9, guidance_scale=1.0, scheduler=names[0], seed=101),
        small(prompt="rain", steps=3, guidance_scale=3.0, scheduler=names[1 % len(names)], seed=102),
        small(prompt="two dragons", negative_prompt="fog", steps=6, scheduler=names[2 % len(names)], seed=103),
    ]

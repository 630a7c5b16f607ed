"""Requests as they come in, the same for the same seed: what they ask for, when they arrive, and who gives up."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from inference.engine.engine import DrawRequest

Value = TypeVar("Value")

#: What requests ask for, and how often: most take the defaults, as they do everywhere.
STEPS: Mapping[int, int] = {4: 15, 8: 15, 20: 40, 30: 15, 50: 15}
GUIDANCE_SCALES: Mapping[float, int] = {4.5: 60, 7.5: 20, 1.0: 20}
#: In trace F, what models are asked for that were distilled to few steps.
FEW_STEPS: Mapping[int, int] = {1: 20, 2: 20, 4: 40, 8: 20}
NO_GUIDANCE: Mapping[float, int] = {0.0: 1}
SCHEDULERS: Mapping[str, int] = {"dpmpp_2m": 60, "euler_a": 20, "ddim": 20}
PROMPTS = (
    "a castle on a hill at dawn",
    "a red boat by the sea",
    "a lighthouse at night",
    "a sunset over a beach",
    "a white windmill in a field",
    "a blue house in the snow",
)
#: In trace E every so many requests one is cancelled when half of its steps are done.
ONE_CANCELLED_IN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One request."""

    #: In mean gaps between arrivals, from the start of the trace.
    at: float
    request: DrawRequest
    #: After so many steps its client wants it no more; None if it does to the end.
    cancelled_at_step: int | None

    @property
    def rows(self) -> int:
        """How many rows each of its steps takes."""
        return 2 if self.request.guidance_scale > 1 else 1

    @property
    def work(self) -> int:
        """How many rows it takes in all."""
        return self.rows * self.request.steps


def make(name: str, *, count: int, seed: int, size_pixels: int) -> Sequence[Arrival]:
    """Make a trace whose arrivals are independent of one another, as those of many clients are.

    Trace C has one size and mixed steps, guidance, seeds and schedulers; trace E is C with clients that give up; trace
    F has few steps and no guidance.
    """
    chosen = random.Random(f"{name} {seed}")  # the same each time is what is wanted
    arrivals, now = [], 0.0
    few_steps = name == "F"
    for number in range(count):
        request = DrawRequest(
            prompt=chosen.choice(PROMPTS),
            negative_prompt="",
            width=size_pixels,
            height=size_pixels,
            steps=_choose(chosen, FEW_STEPS if few_steps else STEPS),
            guidance_scale=_choose(chosen, NO_GUIDANCE if few_steps else GUIDANCE_SCALES),
            seed=number,
            image_count=1,
            scheduler=_choose(chosen, SCHEDULERS),
        )
        gives_up = name == "E" and number % ONE_CANCELLED_IN == ONE_CANCELLED_IN // 2
        arrivals.append(Arrival(at=now, request=request, cancelled_at_step=request.steps // 2 if gives_up else None))
        now += chosen.expovariate(1)
    return arrivals


def _choose(chosen: random.Random, weights: Mapping[Value, int]) -> Value:
    (value,) = chosen.choices(list(weights), list(weights.values()))
    return value

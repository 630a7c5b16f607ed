"""What clients ask for: scripted pictures, of which a few cannot be drawn."""

import random
import uuid
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from easel.v1.generation_pb2 import GenerationSpec
from tests.chaos.journal import Fate

#: Of all that is asked for.
PERCENT = {Fate.HEALTHY: 90, Fate.MODEL_ERROR: 4, Fate.OUT_OF_MEMORY: 3, Fate.HURRIED: 3}
#: How long a picture takes to draw, together with the steps.
STEP_SECONDS = (0.005, 0.05)
STEPS = (2, 12)
DECODE_SECONDS = (0.0, 0.2)
HURRIED_TIMEOUT_SECONDS = (2, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One request, which stays the same however often it is sent."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fate: Fate
    spec: GenerationSpec


def wish(chance: random.Random) -> Wish:
    """Think of something."""
    fate = chance.choices(list(PERCENT), list(PERCENT.values()))[0]
    made = Wish(fate=fate, spec=_spec(chance))
    # The id makes every prompt, and with it every picture, one of its own.
    made.spec.prompt += f" {made.request_id}"
    if fate in (Fate.MODEL_ERROR, Fate.OUT_OF_MEMORY):
        made.spec.prompt += f" fail={fate}"
    if fate == Fate.HURRIED:
        made.spec.timeout.CopyFrom(Duration(seconds=chance.randint(*HURRIED_TIMEOUT_SECONDS)))
    return made


def probe() -> Wish:
    """Ask for a healthy picture that takes no time, before all others."""
    made = Wish(fate=Fate.HEALTHY, spec=GenerationSpec(steps=1, priority=100))
    made.spec.prompt = f"a probe {made.request_id}"
    return made


def _spec(chance: random.Random) -> GenerationSpec:
    step, decode = chance.uniform(*STEP_SECONDS), chance.uniform(*DECODE_SECONDS)
    spec = GenerationSpec(prompt=f"step={step:.3f} decode={decode:.3f}", steps=chance.randint(*STEPS))
    if chance.random() < 0.3:
        spec.seed = chance.randint(0, 1_000_000)
    if chance.random() < 0.15:
        spec.image_count = 2
    if chance.random() < 0.2:
        spec.preview.every_steps = 2
    if chance.random() < 0.2:
        spec.priority = chance.randint(-5, 5)
    return spec

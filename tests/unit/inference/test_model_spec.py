from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from diffusers import EulerDiscreteScheduler, LCMScheduler, PNDMScheduler

from easel.v1.generation_pb2 import ImageFormat
from inference import model_spec
from inference.engine.adapter import Adapter, Traits
from inference.engine.pipelines import traits_of
from inference.models import Card
from tests.unit.inference.scripted_adapter import TRAITS


class StableDiffusionLike:
    """What `traits_of` looks at, with the numbers of the real ones; their weights would take gigabytes."""

    vae_scale_factor = 8

    def __init__(self, scheduler: Any, *, guidance_embedding: int | None = None) -> None:
        self.scheduler = scheduler
        self.unet = SimpleNamespace(config=SimpleNamespace(sample_size=64, time_cond_proj_dim=guidance_embedding))

    def __call__(self, prompt: str, num_inference_steps: int = 50, guidance_scale: float = 7.5) -> None:
        raise NotImplementedError


@pytest.fixture
def sd15() -> Traits:
    return traits_of(StableDiffusionLike(PNDMScheduler(skip_prk_steps=True, steps_offset=1)), name="stable-diffusion")


def test_postcard(postcard_adapter: Adapter) -> None:
    model = model_spec.describe(postcard_adapter.traits, Card(default_steps=20), name="postcard")

    assert (model.defaults.width, model.defaults.height, model.defaults.steps) == (128, 128, 20)
    assert (model.width.min, model.width.max, model.width.multiple_of) == (64, 512, 8)
    assert list(model.schedulers) == sorted(model.schedulers)
    assert model.previews


def test_stable_diffusion_has_the_defaults_of_its_pipeline(sd15: Traits) -> None:
    model = model_spec.describe(sd15, Card(), name="stable-diffusion-v1-5")

    assert (model.defaults.width, model.defaults.height) == (512, 512)
    assert (model.defaults.steps, model.defaults.guidance_scale) == (50, 7.5)
    assert model.defaults.scheduler == "pndm"
    assert model.defaults.image_count == 1
    assert model.defaults.format == ImageFormat.IMAGE_FORMAT_PNG
    assert (model.steps.min, model.steps.max) == (1, 900)
    assert (model.image_count.min, model.image_count.max) == (1, 8)
    assert model.max_pixel_steps >= 512 * 512 * 50 * 8
    assert "lcm" not in model.schedulers
    assert not model.previews


def test_a_turbo_model_wants_few_steps_and_no_guidance() -> None:
    traits = traits_of(StableDiffusionLike(EulerDiscreteScheduler()), name="stabilityai/sd-turbo")

    assert (traits.default_steps, traits.default_guidance_scale) == (4, 0.0)
    assert traits.default_scheduler == "euler"


def test_a_distilled_model_takes_guidance_in_and_keeps_its_scheduler() -> None:
    traits = traits_of(StableDiffusionLike(LCMScheduler(), guidance_embedding=256), name="someone/dreams")

    assert (traits.default_steps, traits.default_guidance_scale) == (4, 7.5)
    assert traits.schedulers == ("lcm",)
    assert traits.max_steps == 50


def test_sizes_may_differ_by_side() -> None:
    pipeline = StableDiffusionLike(EulerDiscreteScheduler())
    pipeline.unet.config.sample_size = [48, 96]

    traits = traits_of(pipeline, name="wide")

    assert (traits.default_height, traits.default_width) == (384, 768)


def test_the_card_goes_before_what_was_found(sd15: Traits) -> None:
    card = Card(
        description="A model.",
        default_width=256,
        default_height=320,
        default_steps=12,
        default_guidance_scale=0.0,
        default_scheduler="euler",
    )

    model = model_spec.describe(sd15, card, name="x")

    assert model.description == "A model."
    assert (model.defaults.width, model.defaults.height, model.defaults.steps) == (256, 320, 12)
    assert (model.defaults.guidance_scale, model.defaults.scheduler) == (0.0, "euler")


def test_a_default_that_the_model_cannot_draw_is_refused(sd15: Traits) -> None:
    with pytest.raises(ValueError, match="none of"):
        model_spec.describe(sd15, Card(default_scheduler="nonsense"), name="x")


@pytest.mark.parametrize("width", [64, 96, 512, 1024])
def test_defaults_lie_within_the_ranges(width: int) -> None:
    traits = replace(TRAITS, default_width=width, size_multiple=16)

    model = model_spec.describe(traits, Card(), name="x")

    assert model.width.min <= model.defaults.width <= model.width.max
    assert model.width.min % 16 == model.width.max % 16 == model.defaults.width % 16 == 0
    assert model.defaults.width * model.defaults.height * model.defaults.steps <= model.max_pixel_steps


def test_the_name_is_the_operators_else_the_cards_else_the_places() -> None:
    assert model_spec.name_of("org/Some Model", Card(name="carded"), override="mine") == "mine"
    assert model_spec.name_of("org/Some Model", Card(name="carded"), override="") == "carded"
    assert model_spec.name_of("stabilityai/SD-Turbo", Card(), override="") == "sd-turbo"
    assert model_spec.name_of("/models/stable diffusion v1.5/", Card(), override="") == "stable-diffusion-v1-5"

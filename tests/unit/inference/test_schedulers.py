from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

from inference import schedulers
from inference.engine.adapter import StepAdapter
from tests.unit.inference.alone import denoise
from tests.unit.inference.scripted_adapter import draw_request

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

FOR_ORDINARY_MODELS = sorted(set(schedulers.TABLE) - {schedulers.DISTILLED})


def evaluations(adapter: StepAdapter, *, scheduler: str, steps: int) -> int:
    state = denoise(adapter, draw_request(scheduler=scheduler, steps=steps))
    (picture,) = adapter.decode([state])
    assert picture.shape == (64, 64, 3)
    return int(state.evaluations)


def saved_scheduler(adapter: Any) -> Any:
    return adapter._saved_scheduler


def test_postcard_offers_all_but_the_distilled_one(postcard_adapter: StepAdapter) -> None:
    assert list(postcard_adapter.traits.schedulers) == FOR_ORDINARY_MODELS
    assert postcard_adapter.traits.default_scheduler == "dpmpp_2m"


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", sorted(schedulers.TABLE))
def test_every_scheduler_draws(postcard_adapter: StepAdapter, name: str, steps: int) -> None:
    assert evaluations(postcard_adapter, scheduler=name, steps=steps) >= steps


@pytest.mark.parametrize("name", FOR_ORDINARY_MODELS)
def test_no_scheduler_cuts_latents_off(name: str) -> None:
    saved = EulerDiscreteScheduler()
    assert "clip_sample" not in saved.config

    assert not schedulers.build(name, saved).config.get("clip_sample", False)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", FOR_ORDINARY_MODELS)
def test_every_scheduler_takes_the_most_steps_that_are_offered(
    postcard_adapter: StepAdapter, name: str, spacing: str
) -> None:
    saved = DDIMScheduler.from_config(
        saved_scheduler(postcard_adapter).config,
        timestep_spacing=spacing,
    )
    scheduler = schedulers.build(name, saved)

    scheduler.set_timesteps(postcard_adapter.traits.max_steps)
    latents = torch.ones(1, 4, 8, 8)
    for timestep in scheduler.timesteps[:10]:
        scaled = scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(0.1 * scaled, timestep, latents).prev_sample

    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("name", sorted(schedulers.TABLE))
def test_a_scheduler_knows_its_name(postcard_adapter: StepAdapter, name: str) -> None:
    built = schedulers.build(name, saved_scheduler(postcard_adapter))

    assert schedulers.own_name(built) == name


def test_schedulers_share_no_state(postcard_adapter: StepAdapter) -> None:
    saved = saved_scheduler(postcard_adapter)

    assert schedulers.build("ddim", saved) is not schedulers.build("ddim", saved)
    assert schedulers.build("ddim", saved) is not saved


def test_a_scheduler_of_another_kind_is_the_only_one() -> None:
    assert schedulers.names_for(FlowMatchEulerDiscreteScheduler(), distilled=False) == ("flow_match_euler",)


def test_a_distilled_model_keeps_its_own() -> None:
    saved: Any = LCMScheduler()

    assert schedulers.names_for(saved, distilled=True) == ("lcm",)
    assert schedulers.DISTILLED in schedulers.names_for(saved, distilled=False)

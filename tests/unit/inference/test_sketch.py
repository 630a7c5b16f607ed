"""The picture that a model has in mind is what it was told, whatever scheduler steps there."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from inference import schedulers
from inference.engine.sketch import Sketch

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

STEPS = 8
NOISE = torch.Generator().manual_seed(3)
CLEAN = torch.randn(1, 4, 8, 8, generator=NOISE)
START = torch.randn(1, 4, 8, 8, generator=NOISE)


def scheduler_of(name: str, prediction: str) -> Any:
    saved = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    scheduler = schedulers.build(name, saved)
    scheduler.set_timesteps(STEPS)
    return scheduler


def levels(scheduler: Any, timestep: Any) -> tuple[Any, Any]:
    """Say how much signal and how much noise a model takes for granted at a timestep."""
    shares = DDIMScheduler.from_config(scheduler.config).alphas_cumprod
    share = np.interp(float(timestep), np.arange(len(shares)), shares.numpy())
    return share**0.5, (1 - share) ** 0.5


def say(scheduler: Any, timestep: Any, latents: torch.Tensor) -> torch.Tensor:
    """Be the model that sees `CLEAN` in everything."""
    signal, noise = levels(scheduler, timestep)
    seen = (scheduler.scale_model_input(latents, timestep) - signal * CLEAN) / noise
    said: dict[str, torch.Tensor] = {
        "epsilon": seen,
        "v_prediction": signal * seen - noise * CLEAN,
        "sample": CLEAN,
    }
    return said[scheduler.config.prediction_type]


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        (name, prediction)
        for name in sorted(set(schedulers.TABLE) - {schedulers.DISTILLED})
        for prediction in ("epsilon", "v_prediction", "sample")
        if prediction != "sample" or name not in {"euler_a", "heun", "kdpm2", "kdpm2_a", "pndm"}  # which do not take it
    ],
)
def test_what_the_model_sees_is_known_after_every_evaluation(name: str, prediction: str) -> None:
    scheduler = scheduler_of(name, prediction)
    latents = START * scheduler.init_noise_sigma

    for timestep in scheduler.timesteps:
        prediction = say(scheduler, timestep, latents)
        sketch = Sketch(scheduler=scheduler, timestep=timestep, noisy_latents=latents, prediction=prediction)
        (latents, *_) = scheduler.step(prediction, timestep, latents, return_dict=False)
        assert (sketch.clean_latents() - CLEAN).abs().max() < 0.1

    assert (latents - CLEAN).abs().max() < 0.1  # and so the model above was a good one


def test_what_flows_is_not_known() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    sketch = Sketch(scheduler=scheduler, timestep=0, noisy_latents=CLEAN, prediction=START)

    with pytest.raises((AttributeError, ValueError)):
        sketch.clean_latents()

"""What the adapters of diffusers' pipelines share."""

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from inference import schedulers
from inference.engine.adapter import DeviceLost, OutOfMemory, Traits
from inference.engine.engine import DrawRequest

#: Where a pipeline says nothing of its own.
FALLBACK_SIZE_PIXELS = 512
FALLBACK_STEPS = 30
FALLBACK_GUIDANCE_SCALE = 5.0
#: Every pipeline refuses sizes that are no multiple of it.
LEAST_SIZE_MULTIPLE = 8

#: With more steps than this share of the timesteps of the training, some schedulers put two steps on the same level of
#: noise and divide by zero.
MAX_STEPS_SHARE = 0.9

FEW_STEPS = 4
_FEW_STEP_WORDS = ("turbo", "lightning", "schnell", "lcm", "hyper")

WARM_UP_STEPS = 2


def warm_up_request(traits: Traits, *, device: torch.device) -> DrawRequest:
    """Make a cheap request that goes through every part of a model.

    On the CPU the smallest, since there is little to warm up; elsewhere of the default size, for which kernels are
    chosen and memory is taken.
    """
    request = replace(traits.default_request(), steps=min(WARM_UP_STEPS, traits.max_steps))
    if device.type != "cpu":
        return request
    side = 8 * traits.size_multiple
    return replace(request, width=min(request.width, side), height=min(request.height, side))


def traits_of(pipeline: Any, *, name: str) -> Traits:
    """Read off a pipeline what it can do; `name` tells distilled models, whose configuration does not.

    The defaults are those of the pipeline's own `__call__`, but few-step models want few steps and no guidance.
    """
    defaults = {key: value.default for key, value in inspect.signature(pipeline.__call__).parameters.items()}
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    scale = getattr(pipeline, "vae_scale_factor", LEAST_SIZE_MULTIPLE)
    height, width = _default_size(pipeline, denoiser, scale=scale)
    embeds_guidance = getattr(getattr(denoiser, "config", None), "time_cond_proj_dim", None) is not None
    few_steps = embeds_guidance or any(word in name.lower() for word in _FEW_STEP_WORDS)
    guidance_scale = float(defaults.get("guidance_scale", FALLBACK_GUIDANCE_SCALE))
    return Traits(
        family=type(pipeline).__name__,
        default_width=width,
        default_height=height,
        size_multiple=max(LEAST_SIZE_MULTIPLE, scale),
        default_steps=FEW_STEPS if few_steps else int(defaults.get("num_inference_steps", FALLBACK_STEPS)),
        max_steps=_max_steps(pipeline.scheduler),
        default_guidance_scale=0.0 if few_steps and not embeds_guidance else guidance_scale,
        schedulers=schedulers.names_for(pipeline.scheduler, distilled=embeds_guidance),
        default_scheduler=schedulers.own_name(pipeline.scheduler),
    )


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn torch's errors about the device into the adapter's."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        _free_memory(error)
        raise OutOfMemory("the device has too little memory for this request") from error
    except torch.AcceleratorError as error:
        raise DeviceLost(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        _free_memory(error)
        raise OutOfMemory("the machine has too little memory for this request") from error


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was told; the CPU does that at once."""
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()


def _free_memory(error: BaseException) -> None:
    # The frames of the failed call hold its tensors.
    traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _default_size(pipeline: Any, denoiser: Any, *, scale: int) -> tuple[int, int]:
    size = getattr(getattr(denoiser, "config", None), "sample_size", None)
    size = size or getattr(pipeline, "default_sample_size", None) or FALLBACK_SIZE_PIXELS // scale
    height, width = (size, size) if isinstance(size, int) else size
    return int(height) * scale, int(width) * scale


def _max_steps(scheduler: Any) -> int:
    """Count the steps that every scheduler can space over the timesteps of the training."""
    config = scheduler.config
    steps = int(config.get("num_train_timesteps", 1000) * MAX_STEPS_SHARE)
    return min(steps, int(config.get("original_inference_steps", steps)))

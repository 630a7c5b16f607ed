"""The noise schedulers, by the names people know."""

import re
from collections.abc import Mapping
from typing import Any

#: Name → diffusers' class, and what is set over the model's own configuration. For `dpmpp_sde` diffusers has two; this
#: one takes its noise from the picture's own generator, and needs no further packages (as lms would, which is left
#: out). Two are made for pixels, and would cut latents off at 1 where a model's configuration does not forbid it.
TABLE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_sde_karras": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

#: Made for distilled models alone: it takes no more steps than those were distilled from.
DISTILLED = "lcm"


def own_name(scheduler: Any) -> str:
    """Name the scheduler a model was saved with: as the table has it, else after its class."""
    config = scheduler.config
    candidates = [name for name, (class_name, _) in TABLE.items() if class_name == type(scheduler).__name__]
    for name in candidates:
        if all(config.get(key) == value for key, value in TABLE[name][1].items()):
            return name
    if candidates:
        return candidates[0]
    class_name = type(scheduler).__name__.removesuffix("Scheduler").removesuffix("Discrete")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()


def names_for(scheduler: Any, *, distilled: bool) -> tuple[str, ...]:
    """Name the schedulers that may stand in for the one a model was saved with, sorted, that one among them.

    Models with a scheduler of another kind, such as flow matching, take no other; nor do distilled ones.
    """
    own = own_name(scheduler)
    if own not in TABLE or distilled:
        return (own,)
    return tuple(sorted({own, *TABLE} - ({DISTILLED} - {own})))


def build(name: str, saved: Any) -> Any:
    """Make a fresh scheduler from the configuration of the one the model was saved with; it holds state of one run."""
    if name == own_name(saved):
        return type(saved).from_config(saved.config)
    import diffusers  # noqa: PLC0415  # takes seconds, and only the engine's thread has use for it

    class_name, overrides = TABLE[name]
    return getattr(diffusers, class_name).from_config(saved.config, **overrides)

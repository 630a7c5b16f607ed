"""Compiles a denoiser in the background: until that is done, it is evaluated as it is."""

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from loguru import logger


def compile_in_background(denoiser: Any, try_out: Callable[[Any], None], on_ready: Callable[[Any], None]) -> None:
    """Compile the blocks that a denoiser is made of again and again, which takes a tenth of the time of all of it.

    Args:
        denoiser: One of diffusers' models; it is left as it is.
        try_out: Evaluates a denoiser, since nothing is compiled before.
        on_ready: Is given another denoiser, compiled, with the same weights; called on a thread of its own. Where it
            cannot be compiled, it never is.
    """

    def run() -> None:
        began = time.monotonic()
        try:
            compiled = _twin_of(denoiser)
            compiled.compile_repeated_blocks(dynamic=True)
            try_out(compiled)
        except Exception:  # noqa: BLE001  # a compiler may raise anything, and there is something to go on with
            logger.opt(exception=True).warning("the denoiser cannot be compiled, and stays as it is", action="compile")
            return
        logger.info("the denoiser is compiled", action="compile", seconds=round(time.monotonic() - began, 1))
        on_ready(compiled)

    threading.Thread(target=run, name="compiler", daemon=True).start()


def _twin_of(denoiser: Any) -> Any:
    """Make another model of the same weights, which take no memory twice."""
    with torch.device("meta"):
        twin = type(denoiser).from_config(denoiser.config)
    twin.load_state_dict(denoiser.state_dict(), assign=True)
    return twin.eval().requires_grad_(False)

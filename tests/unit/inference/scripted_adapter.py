"""A model that draws what a test tells it to, without torch."""

import threading
from collections.abc import Callable

import numpy as np

from inference.engine.adapter import Conditioning, Latents, OnEvaluation, Sketch, Traits
from inference.engine.engine import DrawRequest, Pixels

TRAITS = Traits(
    family="Scripted",
    default_width=64,
    default_height=64,
    size_multiple=8,
    default_steps=4,
    max_steps=1000,
    default_guidance_scale=7.5,
    schedulers=("ddim", "euler"),
    default_scheduler="ddim",
    previews=True,
)
GATE_TIMEOUT_SECONDS = 30.0


def draw_request(**given: object) -> DrawRequest:
    """A small request."""
    values: dict[str, object] = {
        "prompt": "a castle",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "steps": 4,
        "guidance_scale": 7.5,
        "seed": 7,
        "image_count": 1,
        "scheduler": "ddim",
    }
    return DrawRequest(**(values | given))  # type: ignore[arg-type]


class Gate:
    """A point where the engine's thread waits for the test, and the test for the thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the thread pass, now and later."""
        self._opened.set()

    def __call__(self) -> None:
        self.reached.set()
        assert self._opened.wait(GATE_TIMEOUT_SECONDS)


class ScriptedAdapter:
    """Counts its evaluations; calls `script` with the prompt and the step before each of them."""

    def __init__(
        self,
        script: Callable[[str, int], None] = lambda _prompt, _step: None,
        *,
        evaluations: Callable[[int], int] = lambda steps: steps,
    ) -> None:
        self.evaluated: list[tuple[str, int]] = []
        self.decoding: Callable[[str], None] = lambda _prompt: None
        #: What to show of a picture after so many evaluations.
        self.previewing: Callable[[int], Pixels | None] = lambda done: np.full((8, 8, 3), done, dtype=np.uint8)
        self._script = script
        self._evaluations = evaluations

    @property
    def traits(self) -> Traits:
        return TRAITS

    def warm_up(self) -> None:
        return None

    def encode(self, request: DrawRequest) -> Conditioning:
        return request.prompt

    def denoise(
        self, request: DrawRequest, conditioning: Conditioning, *, seed: int, on_evaluation: OnEvaluation
    ) -> Latents:
        evaluations = self._evaluations(request.steps)
        for done in range(1, evaluations + 1):
            self._script(conditioning, done)
            self.evaluated.append((conditioning, done))
            on_evaluation(done, evaluations, done)
        return conditioning, np.full((request.height, request.width, 3), seed % 256, dtype=np.uint8)

    def preview(self, sketch: Sketch) -> Pixels | None:
        return self.previewing(sketch)

    def decode(self, latents: Latents) -> Pixels:
        prompt, pixels = latents
        self.decoding(prompt)
        assert isinstance(pixels, np.ndarray)
        return pixels

"""A model that draws what a test tells it to, without torch."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from inference.engine.adapter import OnEvaluation, Traits
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
#: A step takes as long for many as for one.
STEP_SECONDS = 0.001


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


Script: TypeAlias = Callable[[str, int], None]


@dataclass(eq=False)
class ScriptedState:
    """A picture on its way, and what its adapter was told of it."""

    request: DrawRequest
    seed: int
    evaluations: int
    key: Hashable
    rows: int = 2
    done: int = 0


class ScriptedAdapter:
    """Counts its evaluations, and calls `script` with the prompt and the step before each; cut at its steps."""

    def __init__(
        self,
        script: Script = lambda _prompt, _step: None,
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

    def tune(self) -> None:
        return None

    def encode(self, request: DrawRequest) -> str:
        return request.prompt

    def begin(self, request: DrawRequest, conditioning: str, *, seed: int) -> ScriptedState:
        assert conditioning == request.prompt
        evaluations = self._evaluations(request.steps)
        return ScriptedState(request, seed, evaluations, key=(request.width, request.height))

    def evaluate(self, states: Sequence[ScriptedState]) -> Sequence[None]:
        time.sleep(STEP_SECONDS)
        for state in states:
            if state.request.prompt != "warm-up":
                self._script(state.request.prompt, state.done + 1)
        return [None] * len(states)

    def advance(self, state: ScriptedState, prediction: None) -> None:
        state.done += 1
        self.evaluated.append((state.request.prompt, state.done))

    def wait(self) -> None:
        return None

    def preview(self, state: ScriptedState) -> Pixels | None:
        return self.previewing(state.done)

    def decode(self, states: Sequence[ScriptedState]) -> Sequence[Pixels]:
        for state in states:
            self.decoding(state.request.prompt)
        return [pixels_of(state.request, seed=state.seed) for state in states]


class ScriptedWholeAdapter:
    """The same of a pipeline that is called as a whole."""

    def __init__(self, script: Script = lambda _prompt, _step: None) -> None:
        self.evaluated: list[tuple[str, int]] = []
        self._script = script

    @property
    def traits(self) -> Traits:
        return TRAITS

    def warm_up(self) -> None:
        return None

    def draw(self, request: DrawRequest, *, seed: int, on_evaluation: OnEvaluation) -> Pixels:
        for done in range(1, request.steps + 1):
            self._script(request.prompt, done)
            self.evaluated.append((request.prompt, done))
            on_evaluation(done, request.steps)
        return pixels_of(request, seed=seed)


def pixels_of(request: DrawRequest, *, seed: int) -> Pixels:
    """A picture of one colour, which its seed says."""
    return np.full((request.height, request.width, 3), seed % 256, dtype=np.uint8)

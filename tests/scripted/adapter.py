"""A model without a device: the prompt of a request says what becomes of it.

Words of the form `name=value` are instructions, all others mean nothing:

    encode=0.1  step=0.05  decode=0.2     how long each of these takes, in seconds
    until=/a/file                         the steps take that long only until there is such a file
    fail=model_error                      or out_of_memory, invalid_output: raised in the middle of the steps
    device=lost                           the device is lost in the middle of the steps
    process=killed                        the whole worker is killed in the middle of the steps: a poison request
    process=stopped                       the same with SIGSTOP
    while=/a/file                         these four happen only as long as there is such a file

A file may be named after environment variables, `until=$MINE`, so that two workers follow one script differently.
"""

import hashlib
import os
import signal
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.engine.adapter import DeviceLost, InvalidOutput, OutOfMemory, Traits
from inference.engine.engine import DrawRequest, Pixels
from inference.engine.observer import UNOBSERVED, Observer

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
FAILURES = {"model_error": RuntimeError, "out_of_memory": OutOfMemory, "invalid_output": InvalidOutput}
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


@dataclass(eq=False)
class ScriptedState:
    """A picture on its way."""

    request: DrawRequest
    script: Mapping[str, str]
    seed: int
    done: int = 0

    @property
    def key(self) -> Hashable:
        return self.request.width, self.request.height

    @property
    def rows(self) -> int:
        return 2 if self.request.guidance_scale > 1 else 1

    @property
    def evaluations(self) -> int:
        return self.request.steps


class ScriptedAdapter:
    """Follows the prompts: a batch takes as long as its slowest. The same request always gives the same pixels."""

    def __init__(self, observer: Observer = UNOBSERVED) -> None:
        self._observer = observer
        self._read: set[str] = set()

    @property
    def traits(self) -> Traits:
        return TRAITS

    def warm_up(self) -> None:
        return None

    def tune(self) -> None:
        return None

    def encode(self, request: DrawRequest) -> Mapping[str, str]:
        self._observer.lookup(hit=request.prompt in self._read)
        self._read.add(request.prompt)
        script = read_script(request.prompt)
        time.sleep(float(script.get("encode", 0)))
        return script

    def begin(self, request: DrawRequest, conditioning: Mapping[str, str], *, seed: int) -> ScriptedState:
        return ScriptedState(request, conditioning, seed)

    def evaluate(self, states: Sequence[ScriptedState]) -> Sequence[None]:
        time.sleep(max(_step_seconds(state.script) for state in states))
        for state in states:
            if state.done + 1 == (state.request.steps + 1) // 2:
                _have_the_accident(state.script)
        return [None] * len(states)

    def advance(self, state: ScriptedState, prediction: None) -> None:
        state.done += 1

    def wait(self) -> None:
        return None

    def preview(self, state: ScriptedState) -> Pixels | None:
        return np.full((8, 8, 3), state.done % 256, dtype=np.uint8)

    def decode(self, states: Sequence[ScriptedState]) -> Sequence[Pixels]:
        time.sleep(max(float(state.script.get("decode", 0)) for state in states))
        return [pixels_of(state.request, seed=state.seed) for state in states]


def read_script(prompt: str) -> dict[str, str]:
    """Take the instructions out of a prompt."""
    return dict(word.split("=", 1) for word in prompt.split() if "=" in word)


def pixels_of(request: DrawRequest, *, seed: int) -> Pixels:
    """Paint stripes that no other prompt or seed gets."""
    stripes = hashlib.sha256(f"{request.prompt} {seed}".encode()).digest()[:24]
    colours = np.frombuffer(stripes, dtype=np.uint8).reshape(8, 1, 3)
    rows = np.repeat(colours, -(-request.height // 8), axis=0)[: request.height]
    return np.ascontiguousarray(np.broadcast_to(rows, (request.height, request.width, 3)))


def _step_seconds(script: Mapping[str, str]) -> float:
    in_a_hurry = "until" in script and _is_there(script["until"])
    return 0 if in_a_hurry else float(script.get("step", 0))


def _have_the_accident(script: Mapping[str, str]) -> None:
    if "while" in script and not _is_there(script["while"]):
        return
    if "fail" in script:
        raise FAILURES[script["fail"]]("as the prompt says")
    if script.get("device") == "lost":
        raise DeviceLost("as the prompt says")
    if "process" in script:
        os.kill(os.getpid(), SIGNALS[script["process"]])


def _is_there(file: str) -> bool:
    return Path(os.path.expandvars(file)).exists()

"""The loop that each network is trained in: it goes on where it was stopped, and gives the running average."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inference.postcard.training.progress import Bars

#: How often the work is saved, and a line is written to the log.
SAVE_SECONDS = 120.0
LOG_STEPS = 50
#: Longer gradients than this are shortened.
GRADIENT_NORM = 1.0

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How one network is trained."""

    steps: int
    batch: int
    #: The rate rises over the first steps, and falls to nothing over the last share of them.
    learning_rate: float
    warm_up_steps: int = 200
    falling_share: float = 0.3
    #: Of the running average of the weights, each step.
    average_decay: float = 0.999

    def rate(self, step: int) -> float:
        """Say what share of the learning rate a step takes."""
        rising = (step + 1) / self.warm_up_steps
        falling = (self.steps - step) / (self.falling_share * self.steps)
        return min(1.0, rising, falling)


#: Computes named losses of one step, of which "loss" is the one to lower, from the share of all steps that are done.
#: Random numbers come from torch, which is seeded for each step.
Losses = Callable[[float], Mapping[str, Tensor]]


def train(name: str, network: Network, losses: Losses, plan: Plan, *, folder: Path, seed: int, bars: Bars) -> Network:
    """Train a network to the end of its plan, and give the average of its weights over the last steps.

    A run that was stopped goes on from its last checkpoint, and ends as if it had not been stopped. Ctrl-C stops it
    after the step in hand, and loses none.
    """
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.average_decay))
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    checkpoint = Checkpoint(folder / f"{name}.pt", network=network, average=average, optimizer=optimizer)
    first = checkpoint.load()
    network.train()
    log = Log(folder / f"{name}.jsonl", first=first)
    with bars.task(name, plan.steps, first) as bar, _interrupts_held_back() as interrupted:
        saved = time.monotonic()
        figures: Mapping[str, float] = {}
        for step in range(first, plan.steps):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * plan.rate(step)
            # So that a run that goes on draws the same as one that was not stopped.
            torch.manual_seed(seed * 1_000_003 + step)
            parts = losses(step / plan.steps)
            optimizer.zero_grad(set_to_none=True)
            parts["loss"].backward()
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            average.update_parameters(network)
            if step % LOG_STEPS == 0:
                figures = {key: float(value.detach()) for key, value in parts.items()}
                log.write(step, figures)
            bar.advance(**figures)
            if interrupted() or step + 1 == plan.steps or time.monotonic() > saved + SAVE_SECONDS:
                checkpoint.save(step + 1)
                saved = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    module: Network = average.module
    module.eval().requires_grad_(requires_grad=False)
    return module


class Checkpoint:
    """What a run needs to go on, in a file."""

    def __init__(self, path: Path, *, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._path = path
        self._parts = {"network": network, "average": average, "optimizer": optimizer}

    def load(self) -> int:
        """Take up what was saved, if anything was; say how many steps had been done."""
        if not self._path.is_file():
            return 0
        content = torch.load(self._path, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(content[name])
        return int(content["steps"])

    def save(self, steps: int) -> None:
        """Save; a file is never half written."""
        content = {name: part.state_dict() for name, part in self._parts.items()}
        unfinished = self._path.with_suffix(".part")
        torch.save({"steps": steps, **content}, unfinished)
        unfinished.replace(self._path)


class Log:
    """The losses now and then, a JSON object a line, with the seconds of work up to there."""

    def __init__(self, path: Path, *, first: int) -> None:
        """Go on with a log; what was written of steps that are done once more is dropped, and what was half written."""
        self._path = path
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        kept = [line for line in (json.loads(line) for line in lines if line.endswith("}\n")) if line["step"] < first]
        unfinished = path.with_suffix(".part")
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept))
        unfinished.replace(path)
        self._began = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line."""
        line = {"step": step, "seconds": round(time.monotonic() - self._began, 1), **figures}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def _interrupts_held_back() -> Iterator[Callable[[], bool]]:
    """Have Ctrl-C only be remembered: in the middle of a step there is nothing that could be saved."""
    interrupted = Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)

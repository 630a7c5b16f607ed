"""A run that is stopped goes on as if it had not been; pictures and words are the same each time."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inference.postcard.training import loop, pictures, text
from inference.postcard.training.progress import Bars

PLAN = loop.Plan(steps=12, batch=4, learning_rate=0.01, warm_up_steps=3)


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


class Run:
    """A small regression, which may be stopped at a step."""

    def __init__(self, folder: Path, *, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(3, 1)
        self._folder, self._stop_at = folder, stop_at
        self.shares: list[float] = []

    def train(self) -> Mapping[str, Tensor]:
        trained = loop.train("line", self.network, self._losses, PLAN, folder=self._folder, seed=5, bars=Bars.silent())
        weights: Mapping[str, Tensor] = trained.state_dict()
        return weights

    def _losses(self, generator: torch.Generator, done: float) -> Mapping[str, Tensor]:
        if len(self.shares) == self._stop_at:
            raise Stopped
        self.shares.append(done)
        given = torch.randn(PLAN.batch, 3, generator=generator)
        return {"loss": (self.network(given) - given.sum(dim=1, keepdim=True)).square().mean()}


def test_a_stopped_run_ends_where_one_that_was_not_stopped_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    whole = Run(tmp_path / "whole").train()

    with pytest.raises(Stopped):
        Run(tmp_path / "stopped", stop_at=7).train()
    again = Run(tmp_path / "stopped")
    resumed = again.train()

    assert again.shares[0] == 7 / PLAN.steps
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [path.name for path in (tmp_path / "stopped").iterdir() if path.suffix == ".part"] == []


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = Run(tmp_path).train()
    again = Run(tmp_path)

    assert all(torch.equal(first[name], weight) for name, weight in again.train().items())
    assert again.shares == []


def test_what_is_given_is_the_average_and_not_trained_any_further(tmp_path: Path) -> None:
    run = Run(tmp_path)
    given = run.train()

    assert not torch.equal(given["weight"], run.network.weight)
    assert not given["weight"].requires_grad


def test_the_figures_are_logged(tmp_path: Path) -> None:
    Run(tmp_path).train()

    (line,) = (tmp_path / "line.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"step", "seconds", "loss"}


def test_the_rate_rises_stays_and_falls() -> None:
    plan = loop.Plan(steps=100, batch=1, learning_rate=1.0, warm_up_steps=10, falling_share=0.2)
    rates = [plan.rate(step) for step in range(plan.steps)]

    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert 0 < rates[-1] < 0.06


def test_painting_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "CHUNK", 2)
    file = tmp_path / "new" / "pictures.u8"

    painted = pictures.painted(file, 3, seed="s", bars=Bars.silent())
    assert painted.shape == (3, 128, 128, 3)
    # Half a chunk more was written when it was stopped.
    with file.open("ab") as half_written:
        half_written.write(b"\0" * 1000)
    more = pictures.painted(file, 6, seed="s", bars=Bars.silent())

    for number in range(6):
        assert np.array_equal(more[number], pictures.paint_number(number, seed="s"))


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return text.train_tokenizer(seed="s")


def test_words_of_the_world_are_one_token_and_others_are_several(tokenizer: object) -> None:
    tokenize = tokenizer.tokenize  # type: ignore[attr-defined]

    assert tokenize("A castle, at sunset") == ["a</w>", "castle</w>", ",</w>", "at</w>", "sunset</w>"]
    assert len(tokenize("xylophone")) > 2


def test_captions_of_any_length_make_rows_of_one_length(tokenizer: object) -> None:
    rows = text.tokens(tokenizer, ["", "a castle", "castle " * 200])

    assert rows.shape == (3, text.MAX_TOKENS)
    assert (rows[0, 1:] == tokenizer.eos_token_id).all()  # type: ignore[attr-defined]

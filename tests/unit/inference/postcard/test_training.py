"""A run that is stopped goes on as if it had not been; pictures and words are the same each time."""

import io
import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from inference.models import ModelUnavailable
from inference.postcard import evaluate, sheet
from inference.postcard.drawing import Drawing, tensor
from inference.postcard.judge import Judge
from inference.postcard.training import __main__ as training
from inference.postcard.training import autoencoder, decoder, denoiser, judge, loop, pictures, recipe, run, text
from inference.postcard.training.pictures import Album
from inference.postcard.training.progress import Bars
from inference.postcard.world import imagine_any

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

PLAN = loop.Plan(steps=12, batch=4, learning_rate=0.01, warm_up_steps=3)


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


class Run:
    """A small regression, which may be stopped at a step."""

    def __init__(self, folder: Path, *, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self._folder, self._stop_at = folder, stop_at
        self.shares: list[float] = []
        self.on_step: Callable[[], None] = lambda: None

    def train(self) -> Mapping[str, Tensor]:
        trained = loop.train("line", self.network, self._losses, PLAN, folder=self._folder, seed=5, bars=Bars.silent())
        weights: Mapping[str, Tensor] = trained.state_dict()
        return weights

    def _losses(self, done: float) -> Mapping[str, Tensor]:
        if len(self.shares) == self._stop_at:
            raise Stopped
        self.shares.append(done)
        self.on_step()
        given = torch.randn(PLAN.batch, 3)
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

    assert not torch.equal(given["0.weight"], run.network[0].weight)
    assert not given["0.weight"].requires_grad


def test_the_figures_are_logged(tmp_path: Path) -> None:
    Run(tmp_path).train()

    (line,) = (tmp_path / "line.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"step", "seconds", "loss"}


def test_ctrl_c_stops_after_the_step_in_hand_and_loses_none(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.on_step = lambda: signal.raise_signal(signal.SIGINT) if len(run.shares) == 5 else None

    with pytest.raises(KeyboardInterrupt):
        run.train()
    again = Run(tmp_path)
    again.train()

    assert len(run.shares) == 5
    assert again.shares[0] == 5 / PLAN.steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_stopping_is_no_error_to_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_folder: Path, *, threads: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", stop)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path)])

    with pytest.raises(SystemExit, match="The same command goes on from here"):
        training.main()


def test_the_rate_rises_stays_and_falls() -> None:
    plan = loop.Plan(steps=100, batch=1, learning_rate=1.0, warm_up_steps=10, falling_share=0.2)
    rates = [plan.rate(step) for step in range(plan.steps)]

    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert 0 < rates[-1] < 0.06


def test_painting_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    file = tmp_path / "pictures.u8"
    album = Album(seed="s")

    painted = album.painted(file, 3, bars=Bars.silent(), processes=1, chunk=2)
    assert painted.shape == (3, 128, 128, 3)
    # Half a chunk more was written when it was stopped.
    with file.open("ab") as half_written:
        half_written.write(b"\0" * 1000)
    more = album.painted(file, 6, bars=Bars.silent(), processes=1, chunk=2)

    assert file.stat().st_size == 6 * pictures.PICTURE_BYTES
    for number in range(6):
        assert np.array_equal(more[number], album.paint(number))


def test_a_folder_is_not_shared_by_different_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "code.py").write_text("1")
    monkeypatch.setattr(recipe, "SOURCES", source)
    recipe.check(tmp_path / "work", seed=1)
    recipe.check(tmp_path / "work", seed=1)

    with pytest.raises(recipe.OtherRecipe, match="another seed"):
        recipe.check(tmp_path / "work", seed=2)
    (source / "code.py").write_text("2")
    with pytest.raises(recipe.OtherRecipe, match="begun with other code"):
        recipe.check(tmp_path / "work", seed=1)
    (tmp_path / "work" / recipe.RECIPE_FILE).unlink()
    recipe.check(tmp_path / "work", seed=1)


def test_what_decides_nothing_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "SOURCES", tmp_path)
    recipe.check(tmp_path / "work", seed=1)

    (tmp_path / "evaluate.py").write_text("1")
    recipe.check(tmp_path / "work", seed=1)


def test_the_log_forgets_what_is_done_once_more(tmp_path: Path) -> None:
    log = loop.Log(tmp_path / "log.jsonl", first=0)
    for step in (0, 50, 100):
        log.write(step, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 1')  # half written: the disk was full
    loop.Log(tmp_path / "log.jsonl", first=60).write(100, {"loss": 0.5})

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 1.0), (50, 1.0), (100, 0.5)]
    assert lines[-1]["seconds"] >= lines[-2]["seconds"]


def test_without_a_terminal_lines_tell_how_far_it_is() -> None:
    told = io.StringIO()
    with Bars(Console(file=told)).task("dig", 3) as bar:
        bar.advance(loss=0.25)

    assert told.getvalue() == "dig 1/3  loss 0.2500\n"


def in_small(patched: pytest.MonkeyPatch) -> None:
    """Plan three steps of a few pictures; without bfloat16, since some processors take half a minute a step for it."""
    patched.setattr(torch, "autocast", lambda *_arguments, **_more: nullcontext())
    patched.setattr(run, "PICTURES", 8)
    patched.setattr(run, "JUDGE_PICTURES", 8)
    patched.setattr(text, "CAPTIONS", 4_000)
    for part in (judge, autoencoder, decoder, text, denoiser):
        patched.setattr(part, "PLAN", replace(part.PLAN, steps=3, batch=4))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with plans of three steps: it learns nothing, but all that is done is done."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        in_small(patched)
        return run.train(folder, processes=1, bars=Bars.silent())


def test_what_is_trained_is_a_model_with_a_judge(trained: Path) -> None:
    drawing = Drawing(str(trained))

    (picture,) = drawing.draw(["a castle"], [1])
    assert picture.shape == (128, 128, 3)
    assert Judge.load(trained).look(tensor([picture]))
    assert {path.stat().st_mode & 0o777 for path in trained.rglob("*") if path.is_file()} == {0o644}


def test_parts_are_trained_in_bfloat16(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "PLAN", replace(judge.PLAN, steps=1, batch=4))
    album = Album(seed=f"judge {run.SEED}", imagine=imagine_any)
    painted = album.painted(trained.parent / "judge.u8", 8, bars=Bars.silent())

    dtypes = set[torch.dtype]()

    def note(_module: nn.Module, _given: object, result: object) -> None:
        if isinstance(result, Tensor):
            dtypes.add(result.dtype)

    watch = register_module_forward_hook(note)
    try:
        trained_judge = judge.train(painted, album.ideas(8), folder=tmp_path, seed=1, bars=Bars.silent())
    finally:
        watch.remove()

    assert torch.bfloat16 in dtypes
    assert {weight.dtype for weight in trained_judge.parameters()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in trained_judge.parameters())


def test_a_model_that_is_trained_is_not_trained_again(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_plan: loop.Plan, _step: int) -> float:
        raise AssertionError

    latents = trained.parent / "latents.pt"
    written = latents.stat().st_mtime_ns
    monkeypatch.setattr(loop.Plan, "rate", refuse)
    in_small(monkeypatch)

    assert run.train(trained.parent, processes=1, bars=Bars.silent()) == trained
    assert latents.stat().st_mtime_ns == written


def test_what_is_favoured_is_chosen_more_often_by_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoiser, "PLAN", replace(denoiser.PLAN, batch=10_000))
    torch.manual_seed(4)
    everything = torch.arange(1000)

    chosen = denoiser._mixed(everything, everything[500:], share=0.4)

    assert float((chosen >= 500).float().mean()) == pytest.approx(0.5 * 0.6 + 0.4, abs=0.03)
    assert int(chosen.min()) < 5
    assert denoiser._mixed(everything, everything[[]], share=0.4).shape == (10_000,)


def test_latents_have_unit_variance_and_pictures_stay_as_they_were(trained: Path) -> None:
    painted = Album(seed="postcard 1").painted(trained.parent / "pictures.u8", 8, bars=Bars.silent())
    torch.manual_seed(3)
    coding = autoencoder.build().eval().requires_grad_(requires_grad=False)
    before = coding.decode(coding.encode(tensor(painted)).latent_dist.mean).sample

    autoencoder._standardise(coding, painted)

    latents = coding.encode(tensor(painted)).latent_dist.mean
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(8), atol=0.05, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(8), atol=0.05, rtol=0)
    torch.testing.assert_close(coding.decode(latents).sample, before, atol=0.05, rtol=0)


def test_finishing_the_decoder_leaves_the_encoder_alone(trained: Path) -> None:
    def weights(name: str) -> Mapping[str, Tensor]:
        averaged: Mapping[str, Tensor] = torch.load(trained.parent / f"{name}.pt", weights_only=True)["average"]
        return averaged

    before, after = weights("autoencoder"), weights("decoder")
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    # The layers between hold the mean and spread of the latents now.
    parts = {name.split(".")[1] for name in changed if name != "n_averaged"}
    assert parts == {"decoder", "quant_conv", "post_quant_conv"}


Refused = Callable[[Callable[[], None], list[str]], str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a program in a folder full of traps, and give what it says when it refuses."""
    (tmp_path / "a_file").touch()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / recipe.RECIPE_FILE).write_text("another")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)

    def refused(main: Callable[[], None], arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code
        return f"{ended.value.code} {capsys.readouterr().err}"

    return refused


@pytest.mark.parametrize(
    ("main", "arguments", "expected"),
    [
        (training.main, ["--threads", "0", "work"], "--threads: at least 1"),
        (training.main, ["a_file"], "a_file"),
        (training.main, ["begun"], "begun was begun with other code"),
        (evaluate.main, ["--prompts", "0"], "--prompts: at least"),
        (evaluate.main, ["--model", "nowhere"], "there is no folder nowhere"),
        (evaluate.main, ["--model", "broken"], "broken cannot be loaded"),
        (evaluate.main, ["--json", "a_file/report.json"], "a_file"),
        (evaluate.main, ["--json", "begun"], "Is a directory: 'begun'"),
        (sheet.main, ["no/folder.png"], "a PNG in a folder that is there"),
        (sheet.main, ["--model", "nowhere", "sheet.png"], "there is no folder nowhere"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    refused: Refused, main: Callable[[], None], arguments: list[str], expected: str
) -> None:
    assert expected in refused(main, arguments)


def test_a_folder_without_a_judge_is_named(tmp_path: Path) -> None:
    (tmp_path / "judge.safetensors").write_bytes(b"no weights")

    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelUnavailable, match="is no judge"):
            Judge.load(folder)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return text.train_tokenizer(Album(seed="s"))


def test_words_of_the_world_are_one_token_and_others_are_several(tokenizer: object) -> None:
    tokenize = tokenizer.tokenize  # type: ignore[attr-defined]

    assert tokenize("A castle, at sunset") == ["a</w>", "castle</w>", ",</w>", "at</w>", "sunset</w>"]
    assert len(tokenize("xylophone")) > 2


def test_captions_of_any_length_make_rows_of_one_length(tokenizer: object) -> None:
    rows = text.tokens(tokenizer, ["", "a castle", "castle " * 200])

    assert rows.shape == (3, text.MAX_TOKENS)
    assert (rows[0, 1:] == tokenizer.eos_token_id).all()  # type: ignore[attr-defined]

"""What the Makefile makes of a prompt."""

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
#: A target that shows what a recipe is given, beside those of the Makefile.
SHOW = "show: ; @printf '%s' \"$$PROMPT\""


def prompt_of(*arguments: str, folder: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PROMPT", "MFLAGS"))}
    command = ["make", "--no-print-directory", "-f", str(REPOSITORY / "Makefile"), "--eval", SHOW, *arguments, "show"]
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_only_an_absent_prompt_takes_the_default(tmp_path: Path) -> None:
    assert prompt_of(folder=tmp_path) == "a sunset over a beach"
    assert prompt_of("PROMPT=", folder=tmp_path) == ""
    assert prompt_of("PROMPT=a castle", folder=tmp_path) == "a castle"
    assert prompt_of(folder=tmp_path, PROMPT="from the environment") == "from the environment"


@pytest.mark.parametrize(
    "prompt", ['it\'s "quoted"', "$5 and $(shell touch x)", "`touch x`; touch x", "# a comment", "a \\ b"]
)
def test_a_prompt_arrives_as_it_was_typed_and_nothing_in_it_runs(tmp_path: Path, prompt: str) -> None:
    assert prompt_of(f"PROMPT={prompt}", folder=tmp_path) == prompt
    assert list(tmp_path.iterdir()) == []

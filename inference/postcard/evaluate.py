"""Measures whether postcard draws what it is asked: `python -m inference.postcard.evaluate --json FILE`.

Every prompt is of a combination, in a wording and with filler that training never used. A judge that was trained on
painted pictures says what the drawn ones show.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inference.models import quieten
from inference.postcard.captions import describe
from inference.postcard.judge import Judge, aspects_of
from inference.postcard.painting import paint
from inference.postcard.world import Scene, imagine

MODEL_FOLDER = Path(__file__).parent / "model"
PROMPTS = 300
STEPS = 20
GUIDANCE_SCALE = 4.0
#: Pictures are drawn in batches; the time of one is taken of some that are drawn alone.
BATCH = 10
ALONE = 7

#: The share that has to be as asked, and the seconds that one picture may take on two cores.
BOUNDS: Mapping[str, float] = {"sky": 0.95, "ground": 0.92, "subject": 0.90, "colour": 0.90, "judge_accuracy": 0.98}
SECONDS_BOUND = 1.5

Shown = Mapping[str, StrEnum | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A prompt, the scene behind it, and the seed it is drawn with."""

    prompt: str
    scene: Scene
    seed: int


def main() -> None:
    """Draw, judge, print a table, and write the numbers."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.evaluate", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, and every picture's verdict")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, metavar="FOLDER", help="the model's folder")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is not met")
    arguments = parser.parse_args()
    quieten(offline=True)
    report = evaluate(arguments.model, count=arguments.prompts)
    missed = _show(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if arguments.check and missed else 0)


def evaluate(folder: Path, *, count: int) -> dict[str, Any]:
    """Measure a model: shares of what was as asked, over the prompts that asked for it, from 0 to 1."""
    from diffusers import StableDiffusionPipeline  # noqa: PLC0415  # only once it is kept quiet

    judge = Judge.load(folder)
    questions = [ask(number) for number in range(count)]
    painted = [paint(question.scene, Random(f"evaluation paint {number}")) for number, question in enumerate(questions)]
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    batches = [questions[start : start + BATCH] for start in range(0, count, BATCH)]
    drawn = [
        picture
        for batch in track(batches, "drawing", console=Console(stderr=True))
        for picture in draw(pipeline, batch)
    ]
    asked = [aspects_of(question.scene) for question in questions]
    shown = judge.look(torch.stack(drawn))
    return {
        "prompts": count,
        **_shares(asked, shown),
        "judge_accuracy": _accuracy(asked, judge.look(torch.stack([_tensor(picture) for picture in painted]))),
        "seconds": statistics.median(_seconds_alone(pipeline, question) for question in questions[:ALONE]),
        "steps": STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "threads": torch.get_num_threads(),
        "wrong": [
            {"prompt": question.prompt, "seed": question.seed, "asked": _wrong(one, other), "shown": _wrong(other, one)}
            for question, one, other in zip(questions, asked, shown, strict=True)
            if _wrong(one, other)
        ],
    }


def ask(number: int) -> Question:
    """Make a prompt that training never saw."""
    random = Random(f"evaluation {number}")
    idea = imagine(random, held_out=True)
    return Question(prompt=describe(idea, random, held_out=True), scene=idea.scene, seed=number)


def draw(pipeline: Any, questions: Sequence[Question]) -> torch.Tensor:
    """Draw some prompts, N x 3 x 128 x 128 from -1 to 1; each has noise of its own."""
    pictures = pipeline(
        [question.prompt for question in questions],
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(question.seed) for question in questions],
        output_type="pt",
    ).images
    return 2.0 * pictures.float() - 1.0


def _shares(asked: Sequence[Shown], shown: Sequence[Shown]) -> dict[str, float]:
    right, all_ = Counter[str](), Counter[str]()
    for one, other in zip(asked, shown, strict=True):
        for aspect, kind in one.items():
            if kind is not None:
                # Of a plain shape, its background is a colour asked for as well.
                name = "colour" if aspect == "background" else aspect
                all_[name] += 1
                right[name] += other[aspect] == kind
    return {name: right[name] / all_[name] for name in all_}


def _accuracy(asked: Sequence[Shown], shown: Sequence[Shown]) -> float:
    """Say how often the judge is right about painted pictures: at worst, of the aspects."""
    return min(_shares(asked, shown).values())


def _wrong(one: Shown, other: Shown) -> dict[str, str]:
    return {aspect: str(kind) for aspect, kind in one.items() if kind != other[aspect]}


def _seconds_alone(pipeline: Any, question: Question) -> float:
    began = time.perf_counter()
    draw(pipeline, [question])
    return time.perf_counter() - began


def _tensor(picture: Any) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1


def _show(report: Mapping[str, Any]) -> bool:
    """Print a table; say whether a bound was missed."""
    table = Table(title=f"postcard, {report['prompts']} prompts that training never saw, {report['steps']} steps")
    for heading in ("", "measured", "bound", "met"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [(name, report[name], bound, report[name] >= bound) for name, bound in BOUNDS.items()]
    rows.append(("seconds", report["seconds"], SECONDS_BOUND, report["seconds"] <= SECONDS_BOUND))
    for name, value, bound, met in rows:
        table.add_row(name.replace("_", " "), f"{value:.3f}", f"{bound:.2f}", "yes" if met else "NO")
    Console().print(table)
    return not all(met for *_, met in rows)


if __name__ == "__main__":
    main()

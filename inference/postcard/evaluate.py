"""Measures whether postcard draws what it is asked: `python -m inference.postcard.evaluate --json FILE`.

Every prompt is of a combination, in a wording and with filler that training never used. A judge that was trained on
painted pictures says what the drawn ones show.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inference import models
from inference.postcard.aspects import Shown, shown_in
from inference.postcard.captions import describe
from inference.postcard.drawing import MODEL, Drawing, tensor
from inference.postcard.judge import Judge
from inference.postcard.painting import paint
from inference.postcard.painting.canvas import Pixels
from inference.postcard.vocabulary import GROUNDS, SKIES
from inference.postcard.world import Landscape, Scene, Sky, imagine_held_out

PROMPTS = 300
#: How often each ground is drawn for the negative prompts.
NEGATIVE_SEEDS = 4
#: Pictures are drawn in batches; the time of one is the median of some that are drawn alone.
BATCH = 10
ALONE = 7

#: The share that has to be as asked, and the seconds that one picture may take on two cores.
BOUNDS: Mapping[str, float] = {"sky": 0.95, "ground": 0.92, "subject": 0.90, "colour": 0.90, "judge_accuracy": 0.98}
SECONDS_BOUND = 1.5
#: What the time is bounded on.
THREADS = min(2, os.cpu_count() or 1)
#: With fewer, some aspect may not be asked for at all.
MIN_PROMPTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A prompt, the scene behind it, and the seed it is drawn with."""

    prompt: str
    scene: Scene
    seed: int


def main() -> None:
    """Draw, judge, write the numbers, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.evaluate", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, and what was not as asked")
    parser.add_argument("--model", default=MODEL, metavar="FOLDER", help="another model of this world")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"how many, at least {MIN_PROMPTS}")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is not met")
    parser.add_argument("--threads", type=int, default=THREADS, help="how many cores to use; the bounds are for two")
    arguments = parser.parse_args()
    if arguments.prompts < MIN_PROMPTS or arguments.threads < 1:
        parser.error(f"--prompts: at least {MIN_PROMPTS}, and --threads: at least 1")
    torch.set_num_threads(arguments.threads)
    try:
        if arguments.json:
            # Now, and not after minutes of drawing, it shows whether the file can be written.
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.open("a").close()
        report = evaluate(arguments.model, count=arguments.prompts)
    except (models.ModelUnavailable, OSError) as error:
        parser.error(str(error))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    missed = show(report)
    sys.exit(1 if arguments.check and missed else 0)


def evaluate(model: str, *, count: int) -> dict[str, Any]:
    """Measure a model: shares of what was as asked, over the prompts that asked for it, from 0 to 1.

    Raises:
        ModelUnavailable: there is none, or it has no judge.
    """
    drawing = Drawing(model)
    judge = Judge.load(Path(drawing.folder))
    questions = [ask(number) for number in range(count)]
    painted = [paint(question.scene, Random(f"evaluation {question.seed}")) for question in questions]
    drawn = _draw(drawing, questions)
    asked = [shown_in(question.scene) for question in questions]
    shown, seen_in_painted = judge.look(tensor(drawn)), judge.look(tensor(painted))
    landscapes = [isinstance(question.scene, Landscape) for question in questions]
    shares_of_judge = shares(asked, seen_in_painted)
    as_asked = [is_as_asked(*pair) for pair in zip(asked, shown, strict=True)]
    return {
        "prompts": count,
        **shares(asked, shown),
        # At worst, of the aspects.
        "judge_accuracy": min(shares_of_judge.values()),
        # Of all prompts, those of which nothing is missing; and of skies, those that a negative prompt keeps away.
        "everything": statistics.mean(as_asked),
        "kept_away": measure_negative_prompts(drawing, judge),
        "seconds": statistics.median(_seconds_alone(drawing, question) for question in questions[:ALONE]),
        "threads": torch.get_num_threads(),
        "steps": drawing.steps,
        "guidance_scale": drawing.guidance_scale,
        "landscapes": {"prompts": sum(landscapes), **_shares_of(landscapes, asked, shown)},
        "figures": {
            "prompts": count - sum(landscapes), **_shares_of([not one for one in landscapes], asked, shown)
        },
        "judge": shares_of_judge,
        "wrong": [
            {"prompt": question.prompt, "seed": question.seed, "asked": _but(one, other), "shown": _but(other, one)}
            for question, one, other, is_right in zip(questions, asked, shown, as_asked, strict=True)
            if not is_right
        ],
    }  # fmt: skip


def ask(number: int) -> Question:
    """Make a prompt that training never saw."""
    random = Random(f"evaluation {number}")
    idea = imagine_held_out(random)
    return Question(prompt=describe(idea, random, held_out=True), scene=idea.scene, seed=number)


def shares(asked: Sequence[Shown], shown: Sequence[Shown]) -> dict[str, float]:
    """Say for each aspect which share of what was asked for is shown."""
    right, all_ = Counter[str](), Counter[str]()
    for one, other in zip(asked, shown, strict=True):
        for aspect, kind in one.items():
            if kind is not None:
                # Of a plain shape, its background is a colour asked for as well.
                name = "colour" if aspect == "background" else aspect
                all_[name] += 1
                right[name] += other[aspect] == kind
    return {name: right[name] / all_[name] for name in all_}


def is_as_asked(asked: Shown, shown: Shown) -> bool:
    """Whether all that was asked for is shown."""
    return all(shown[aspect] == kind for aspect, kind in asked.items() if kind is not None)


def measure_negative_prompts(drawing: Drawing, judge: Judge) -> float:
    """Draw grounds under whatever sky, and again with that sky in the negative prompt; say how often it goes away."""
    prompts = [names[0][0] for names in GROUNDS.values()] * NEGATIVE_SEEDS
    seeds = range(len(prompts))
    skies = [one["sky"] for one in judge.look(tensor(drawing.draw(prompts, seeds)))]
    unwanted = ["" if sky is None else SKIES[Sky(sky)][0][0] for sky in skies]
    drawn = drawing.draw(prompts, seeds, negative_prompts=unwanted)
    return statistics.mean(one["sky"] != sky for one, sky in zip(judge.look(tensor(drawn)), skies, strict=True))


def show(report: Mapping[str, Any]) -> bool:
    """Print a table; say whether a bound was missed."""
    table = Table(title=f"postcard: {report['prompts']} prompts that training never saw, {report['steps']} steps")
    for heading in ("", "measured", "bound", "met"):
        table.add_column(heading, justify="right" if heading else "left")
    met = {name: report[name] >= bound for name, bound in BOUNDS.items()}
    met["seconds"] = report["seconds"] <= SECONDS_BOUND
    for name, bound in {**BOUNDS, "seconds": SECONDS_BOUND}.items():
        table.add_row(name.replace("_", " "), f"{report[name]:.3f}", f"{bound:.2f}", "yes" if met[name] else "NO")
    for name in ("everything", "kept_away"):
        table.add_row(name.replace("_", " "), f"{report[name]:.3f}", "", "")
    Console().print(table)
    return not all(met.values())


def _draw(drawing: Drawing, questions: Sequence[Question]) -> list[Pixels]:
    drawn: list[Pixels] = []
    starts = range(0, len(questions), BATCH)
    for start in track(starts, "drawing", console=Console(stderr=True), transient=True):
        batch = questions[start : start + BATCH]
        drawn += drawing.draw([question.prompt for question in batch], [question.seed for question in batch])
    return drawn


def _shares_of(chosen: Sequence[bool], asked: Sequence[Shown], shown: Sequence[Shown]) -> dict[str, float]:
    pairs = [pair for is_chosen, *pair in zip(chosen, asked, shown, strict=True) if is_chosen]
    return shares([one for one, _ in pairs], [other for _, other in pairs])


def _but(one: Shown, other: Shown) -> dict[str, str | None]:
    """Say what one has and the other has not."""
    return {aspect: kind and str(kind) for aspect, kind in one.items() if kind != other[aspect]}


def _seconds_alone(drawing: Drawing, question: Question) -> float:
    began = time.perf_counter()
    drawing.draw([question.prompt], [question.seed])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

"""What Easel adds to the drawing itself: Generate's wall time less the stock pipeline's own `__call__`.

Both draw the same pictures on the same machine with as many threads, in turn and never at the same time.
"""

import argparse
import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import PIL.Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import report
from bench.pipeline import Drawing, StockPipeline
from bench.report import Report, Target
from easel import logs
from easel.cli.terminal import phase_seconds
from easel.client import Client, Generation, GenerationSpec, GenerationState
from easel.embedded import Stack
from easel.v1.model_pb2 import Model
from inference.models import locate, read_card

BOUND_MS = 150.0
ROUNDS = 20
WARM_UP_ROUNDS = 3
THREADS = 1
PROMPT = "a sunset over a beach"


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One picture, drawn both ways."""

    seed: int
    #: From the call of Generate until its last message.
    generate_seconds: float
    #: The pipeline's `__call__`.
    pipeline_seconds: float
    #: Where the service says its time went.
    phase_seconds: dict[str, float]
    #: Whether both drew the same picture, pixel by pixel.
    same_picture: bool

    @property
    def overhead_ms(self) -> float:
        """What the service added."""
        return (self.generate_seconds - self.pipeline_seconds) * 1000


async def measure(rounds: int, *, steps: int | None) -> list[Round]:
    """Draw pictures both ways, in turn."""
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        environment = {"EASEL_THREADS": str(THREADS), "EASEL_LOG_LEVEL": "WARNING"}
        async with Stack(Path(folder) / "stack", environment=environment) as stack, Client(stack.target) as client:
            model_folder = locate(stack.model)
            threads = read_card(model_folder).cap_threads(THREADS)
            async with StockPipeline(model_folder, threads=threads) as pipeline:
                (model,) = await client.list_models()
                drawings = [_drawing(model, seed=seed, steps=steps) for seed in range(WARM_UP_ROUNDS + rounds)]
                file = Path(folder) / "picture.png"
                return [await _draw_twice(each, client, pipeline, file=file) for each in drawings][WARM_UP_ROUNDS:]


async def _draw_twice(drawing: Drawing, client: Client, pipeline: StockPipeline, *, file: Path) -> Round:
    began = time.perf_counter()
    generation = await _generate(client, drawing)
    generate_seconds = time.perf_counter() - began
    await client.download(generation, file)
    stock = await pipeline.draw(drawing)
    return Round(
        seed=drawing.seed,
        generate_seconds=generate_seconds,
        pipeline_seconds=stock.seconds,
        phase_seconds=phase_seconds(generation),
        same_picture=_sha256_of_pixels(file) == stock.sha256,
    )


async def _generate(client: Client, drawing: Drawing) -> Generation:
    spec = GenerationSpec(
        prompt=drawing.prompt,
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        seed=drawing.seed,
        width=drawing.width,
        height=drawing.height,
    )
    generation = Generation()
    async for event in client.generate(spec):
        generation = event.generation
    if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
        raise RuntimeError(f"generation {generation.id} came to no picture: {generation.failure.message}")
    return generation


def _drawing(model: Model, *, seed: int, steps: int | None) -> Drawing:
    defaults = model.defaults
    return Drawing(
        prompt=PROMPT,
        steps=steps or defaults.steps,
        guidance_scale=defaults.guidance_scale,
        seed=seed,
        width=defaults.width,
        height=defaults.height,
    )


def _sha256_of_pixels(file: Path) -> str:
    with PIL.Image.open(file) as picture:
        return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def summarise(rounds: Sequence[Round]) -> Report:
    """Put the rounds into a report."""
    overheads = [each.overhead_ms for each in rounds]
    median = statistics.median(overheads)
    same = sum(each.same_picture for each in rounds)
    return Report(
        name="overhead",
        results={
            "overhead_ms": {"median": median, "min": min(overheads), "max": max(overheads), "samples": overheads},
            "same_pictures": same,
            "median_phase_seconds": _median_phases(rounds),
            "rounds": [asdict(each) for each in rounds],
        },
        targets=[
            Target(name="median overhead, ms", value=median, bound=BOUND_MS, better="lower"),
            Target(name="same pictures as the stock pipeline", value=same, bound=len(rounds), better="higher"),
        ],
    )


def show(rounds: Sequence[Round], *, console: Console) -> None:
    """Print where the time goes, in medians."""
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column(f"median of {len(rounds)}")
    table.add_column("ms", justify="right")
    table.add_row("Generate, call to last message", _ms(statistics.median(each.generate_seconds for each in rounds)))
    table.add_row("the pipeline's own __call__", _ms(statistics.median(each.pipeline_seconds for each in rounds)))
    table.add_section()
    for name, seconds in _median_phases(rounds).items():
        table.add_row(f"service: {name}", _ms(seconds))
    console.print(table)


def _median_phases(rounds: Sequence[Round]) -> dict[str, float]:
    return {name: statistics.median(each.phase_seconds[name] for each in rounds) for name in rounds[0].phase_seconds}


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    logs.configure(service="bench", level="WARNING")
    console = Console(highlight=False)
    with console.status("measuring"):
        rounds = asyncio.run(measure(options.rounds, steps=options.steps))
    show(rounds, console=console)
    return report.finish(summarise(rounds), options, console=console)


def _options() -> argparse.Namespace:
    parser = report.arguments("Measure what Easel adds to the drawing itself.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many pictures; {ROUNDS} when absent")
    parser.add_argument("--steps", type=int, help="denoising steps; the model's default when absent")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""The stock diffusers pipeline alone, in a process of its own: draws what it is told, and says how long that took.

It reads one JSON object a line from standard input, `{prompt, steps, guidance_scale, seed, width, height}`, and answers
each with `{seconds, sha256}`: of `__call__` alone, and of the picture's RGB bytes.
"""

import asyncio
import hashlib
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.child import Child, answer_questions
from inference.models import quieten


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """What is to be drawn."""

    prompt: str
    steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """How long it took, and what came out."""

    seconds: float
    sha256: str


class StockPipeline(Child):
    """The pipeline as a child process, with as many CPU threads as it is compared with."""

    def __init__(self, folder: str, *, threads: int) -> None:
        super().__init__("bench.pipeline", folder, str(threads))

    async def draw(self, drawing: Drawing) -> Drawn:
        """Draw one picture."""
        return Drawn(**await self.ask(asdict(drawing)))


def main() -> None:
    """Answer until nobody asks any more."""
    folder, threads = sys.argv[1:]
    pipeline = _load(folder, threads=int(threads))

    async def draw(question: dict[str, Any]) -> dict[str, Any]:
        return asdict(_draw(pipeline, Drawing(**question)))

    asyncio.run(answer_questions(draw))


def _load(folder: str, *, threads: int) -> Any:
    quieten(offline=True)
    import torch  # noqa: PLC0415  # the parent process measures, and needs no torch for that
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    pipeline = DiffusionPipeline.from_pretrained(
        folder, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _draw(pipeline: Any, drawing: Drawing) -> Drawn:
    import torch  # noqa: PLC0415

    began = time.perf_counter()
    (picture,) = pipeline(
        drawing.prompt,
        num_inference_steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        width=drawing.width,
        height=drawing.height,
        generator=torch.Generator().manual_seed(drawing.seed),
    ).images
    seconds = time.perf_counter() - began
    return Drawn(seconds=seconds, sha256=hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest())


if __name__ == "__main__":
    main()

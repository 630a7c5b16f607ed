"""The stock diffusers pipeline alone, in a process of its own: draws what it is told, and says how long that took.

It reads one JSON object a line from standard input, `{prompt, steps, guidance_scale, seed, width, height}`, and answers
each with `{seconds, sha256}`: of `__call__` alone, and of the picture's RGB bytes.
"""

import asyncio
import hashlib
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

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


class StockPipeline:
    """The pipeline as a child process, with as many CPU threads as it is compared with."""

    _process: Process

    def __init__(self, folder: str, *, threads: int) -> None:
        self._arguments = (folder, str(threads))

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "bench.pipeline", *self._arguments]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def draw(self, drawing: Drawing) -> Drawn:
        """Draw one picture."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(drawing)).encode() + b"\n")
        await self._process.stdin.drain()
        return Drawn(**json.loads(await self._process.stdout.readline()))


def main() -> None:
    """Answer until standard input ends."""
    folder, threads = sys.argv[1:]
    pipeline = _load(folder, threads=int(threads))
    for line in sys.stdin:
        print(json.dumps(asdict(_draw(pipeline, Drawing(**json.loads(line))))), flush=True)


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

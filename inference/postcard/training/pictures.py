"""The pictures to learn from: as many as wanted, each made by its number."""

import functools
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from inference.postcard.painting import SIZE_PIXELS, paint
from inference.postcard.training.progress import Bars
from inference.postcard.world import Idea, imagine

#: So many are painted at a time by one process.
CHUNK = 250
PICTURE_BYTES = SIZE_PIXELS * SIZE_PIXELS * 3

Pictures = npt.NDArray[np.uint8]


def idea(number: int, *, seed: str) -> Idea:
    """Think of the scene of one picture."""
    return imagine(Random(f"{seed} idea {number}"))


def paint_number(number: int, *, seed: str) -> Pictures:
    """Paint one picture, 128 x 128 x 3."""
    return paint(idea(number, seed=seed).scene, Random(f"{seed} paint {number}"))


def painted(
    path: Path, count: int, *, seed: str, bars: Bars, processes: int | None = None, chunk: int = CHUNK
) -> Pictures:
    """Give so many pictures, N x 128 x 128 x 3 in a file; those that are not there yet are painted."""
    chunks = range(0, count, chunk)
    with path.open("ab") as file:
        finished = file.tell() // (chunk * PICTURE_BYTES)
        # The rest may have been half written.
        file.truncate(finished * chunk * PICTURE_BYTES)
        for painted_chunk in _paint_chunks(chunks[finished:], count=chunk, seed=seed, processes=processes, bars=bars):
            file.write(painted_chunk.tobytes())
    pictures = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, SIZE_PIXELS, SIZE_PIXELS, 3)
    return pictures[:count]


def _paint_chunks(
    firsts: Sequence[int], *, count: int, seed: str, processes: int | None, bars: Bars
) -> Iterator[Pictures]:
    if not firsts:
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool, bars.task("paint", len(firsts)) as bar:
        for pictures in pool.imap(functools.partial(_paint_chunk, count=count, seed=seed), firsts):
            yield pictures
            bar.advance()


def _paint_chunk(first: int, *, count: int, seed: str) -> Pictures:
    return np.stack([paint_number(number, seed=seed) for number in range(first, first + count)])


def ideas(count: int, *, seed: str) -> Sequence[Idea]:
    """Think of the scenes of the first so many pictures again."""
    return [idea(number, seed=seed) for number in range(count)]

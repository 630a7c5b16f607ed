"""The pictures to learn from: as many as wanted, each made by its number."""

import functools
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from inference.postcard.painting import SIZE_PIXELS, paint
from inference.postcard.training.progress import Bars
from inference.postcard.world import Idea, imagine

#: So many are painted at a time by one process.
CHUNK = 250

Pictures = npt.NDArray[np.uint8]


def idea(number: int, *, seed: str, held_out: bool = False) -> Idea:
    """Think of the scene of one picture."""
    return imagine(Random(f"{seed} idea {number}"), held_out=held_out)


def paint_number(number: int, *, seed: str, held_out: bool = False) -> Pictures:
    """Paint one picture, 128 x 128 x 3."""
    return paint(idea(number, seed=seed, held_out=held_out).scene, Random(f"{seed} paint {number}"))


def painted(path: Path, count: int, *, seed: str, bars: Bars) -> Pictures:
    """Give so many pictures, N x 128 x 128 x 3 in a file; those that are not there yet are painted, on all cores."""
    chunks = range(0, count, CHUNK)
    shape = (len(chunks) * CHUNK, SIZE_PIXELS, SIZE_PIXELS, 3)
    done = path.with_suffix(".done")
    finished = int(done.read_text()) if done.is_file() else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    if finished < len(chunks):
        with path.open("ab") as file:
            file.truncate(finished * CHUNK * SIZE_PIXELS * SIZE_PIXELS * 3)
            remaining = chunks[finished:]
            with multiprocessing.get_context("spawn").Pool() as pool, bars.task("paint", len(chunks), finished) as bar:
                for pictures in pool.imap(functools.partial(_paint_chunk, seed=seed), remaining):
                    file.write(pictures.tobytes())
                    file.flush()
                    finished += 1
                    done.write_text(str(finished))
                    bar.advance()
    return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)[:count]


def _paint_chunk(first: int, *, seed: str) -> Pictures:
    return np.stack([paint_number(number, seed=seed) for number in range(first, first + CHUNK)])


def ideas(count: int, *, seed: str) -> Sequence[Idea]:
    """Think of the scenes of the first so many pictures again."""
    return [idea(number, seed=seed) for number in range(count)]

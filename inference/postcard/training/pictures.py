"""The pictures to learn from: as many as wanted, each made by its number."""

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Album:
    """Ideas and their pictures, without an end."""

    seed: str
    imagine: Callable[[Random], Idea] = imagine

    def idea(self, number: int) -> Idea:
        """Think of the scene of one picture."""
        return self.imagine(Random(f"{self.seed} idea {number}"))

    def ideas(self, count: int) -> Sequence[Idea]:
        """Think of the scenes of the first so many pictures."""
        return [self.idea(number) for number in range(count)]

    def paint(self, number: int) -> Pictures:
        """Paint one picture, 128 x 128 x 3."""
        return paint(self.idea(number).scene, Random(f"{self.seed} paint {number}"))

    def painted(
        self, path: Path, count: int, *, bars: Bars, processes: int | None = None, chunk: int = CHUNK
    ) -> Pictures:
        """Give the first so many pictures, N x 128 x 128 x 3 in a file; those that are not there yet are painted."""
        chunks = range(0, count, chunk)
        with path.open("ab") as file:
            finished = file.tell() // (chunk * PICTURE_BYTES)
            # The rest may have been half written.
            file.truncate(finished * chunk * PICTURE_BYTES)
            for painted_chunk in self._paint_chunks(chunks[finished:], count=chunk, processes=processes, bars=bars):
                file.write(painted_chunk.tobytes())
        pictures = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, SIZE_PIXELS, SIZE_PIXELS, 3)
        return pictures[:count]

    def _paint_chunks(
        self, firsts: Sequence[int], *, count: int, processes: int | None, bars: Bars
    ) -> Iterator[Pictures]:
        if not firsts:
            return
        painters = multiprocessing.get_context("spawn").Pool(processes, initializer=_ignore_interrupts)
        with painters as pool, bars.task("paint", len(firsts)) as bar:
            for pictures in pool.imap(functools.partial(self._paint_chunk, count=count), firsts):
                yield pictures
                bar.advance()

    def _paint_chunk(self, first: int, *, count: int) -> Pictures:
        return np.stack([self.paint(number) for number in range(first, first + count)])


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that waits for the pictures, and ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""An observer that remembers."""

from collections import defaultdict

from inference.engine.observer import Work


class RecordingObserver:
    """What an engine told of its doings."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.steps: list[float] = []
        self.seconds: dict[Work, float] = defaultdict(float)
        self.lookups: list[bool] = []
        self.times_out_of_memory = 0
        self.memories: list[tuple[int, int]] = []

    def batch(self, *, rows: int, paying_rows: int) -> None:
        self.batches.append((rows, paying_rows))

    def step(self, *, seconds: float) -> None:
        self.steps.append(seconds)

    def work(self, work: Work, *, seconds: float) -> None:
        self.seconds[work] += seconds

    def lookup(self, *, hit: bool) -> None:
        self.lookups.append(hit)

    def out_of_memory(self) -> None:
        self.times_out_of_memory += 1

    def memory(self, *, used_bytes: int, total_bytes: int) -> None:
        self.memories.append((used_bytes, total_bytes))

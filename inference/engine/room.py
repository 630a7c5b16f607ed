"""How many more requests an engine has room for: as many as fill its batches, and no more."""

import math
import statistics
from collections import Counter, deque
from collections.abc import Hashable, Iterable

from inference.engine.cost_model import CostModel
from inference.engine.job import Sample

#: Who leaves within so long makes room now: in about that time another request is claimed.
CLAIMING_SECONDS = 0.03
#: What requests want is guessed from so many of the last.
REMEMBERED_REQUESTS = 16
#: Where there are several shapes, each may have a batch of its own, but no more rows are taken in than fill so many.
MOST_BATCHES = 2


class Room:
    """Guesses how many of the requests that may come fit in, from what the last ones wanted."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        #: The shape and the rows of each.
        self._wants: deque[tuple[Hashable, int]] = deque(maxlen=REMEMBERED_REQUESTS)

    def note(self, key: Hashable, rows: int) -> None:
        """Remember what a request wants: the shape of its pictures, and their rows together."""
        self._wants.append((key, rows))

    def left(self, samples: Iterable[Sample], *, waiting: int) -> int:
        """Count how many requests fit beside pictures in hand and requests that wait; if there are none, one does."""
        rows = Counter[Hashable]()
        for sample in samples:
            rows[sample.key] += 0 if self._is_leaving(sample) else sample.rows
        typical_key = self._wants[-1][0]
        typical_rows = statistics.mean(rows for _, rows in self._wants)
        if not rows:
            rows[typical_key] = 0
        rows[typical_key] += math.ceil(waiting * typical_rows)
        caps = {key: self._costs.cap(key) for key in rows}
        beside = sum(max(0, cap - rows[key]) for key, cap in caps.items())
        in_all = MOST_BATCHES * max(caps.values()) - rows.total()
        fitting = int(min(beside, in_all) / typical_rows)
        return max(fitting, 0 if rows.total() else 1)

    def _is_leaving(self, sample: Sample) -> bool:
        step_seconds = self._costs.seconds(sample.key, self._costs.cap(sample.key))
        return sample.remaining <= max(1, CLAIMING_SECONDS / step_seconds if step_seconds else 0)

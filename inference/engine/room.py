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
        in_hand, leaving = Counter[Hashable](), Counter[Hashable]()
        for sample in samples:
            in_hand[sample.key] += sample.rows
            leaving[sample.key] += sample.rows if self._is_leaving(sample) else 0
        key = self._wants[-1][0]
        wanted_rows = statistics.median(rows for _, rows in self._wants)
        in_hand[key] += math.ceil(waiting * wanted_rows)
        caps = {key: self._costs.cap(key) for key in in_hand}
        # No more than a batch can leave with a step.
        staying = {key: in_hand[key] - min(leaving[key], cap) for key, cap in caps.items()}
        beside = sum(max(0, cap - staying[key]) for key, cap in caps.items())
        in_all = MOST_BATCHES * max(caps.values()) - sum(staying.values())
        return max(int(min(beside, in_all) / wanted_rows), 0 if in_hand.total() else 1)

    def _is_leaving(self, sample: Sample) -> bool:
        step_seconds = self._costs.seconds(sample.key, self._costs.cap(sample.key))
        return sample.remaining <= max(1, CLAIMING_SECONDS / step_seconds if step_seconds else 0)

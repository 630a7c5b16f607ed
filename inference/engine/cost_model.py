"""How long a step takes, by the shape of its rows and their number, and how many rows pay."""

import statistics
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

#: Of each number of rows so many last steps are remembered: their median is stable on a machine that others use, too.
REMEMBERED_STEPS = 9
#: Fewer rows that reach this share of the best throughput are as good: each request then waits less for the others.
GOOD_SHARE = 0.95
#: A step longer than this keeps those that want to join or to leave waiting, unless steps take as long anyway.
LONGEST_STEP_SECONDS = 0.25
#: Where even the shortest step is longer, more rows may take so many times as long.
LONGER = 1.5
#: So few steps say nothing yet: the first of a kind is slow on some devices, and any may be disturbed.
TRUSTED_STEPS = 3
#: What has not been seen for so many steps is forgotten, so that what did not pay once is tried again.
FORGOTTEN_STEPS = 2000
#: Of so many shapes costs are remembered; clients choose them.
MOST_SHAPES = 1000


@dataclass(slots=True)
class _Steps:
    """The last steps with one number of rows."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_STEPS))
    median_seconds: float = 0.0
    #: The number of steps of its shape when the last of them was seen.
    seen_at: int = 0


@dataclass(slots=True)
class _Curve:
    """What is known of one shape."""

    steps: int = 0
    by_rows: dict[int, _Steps] = field(default_factory=dict)
    #: The numbers of rows, in order.
    counts: list[int] = field(default_factory=list)
    #: What memory allowed when it last did not suffice, and the number of steps then.
    most_rows: int | None = None
    halved_at: int = 0
    #: How many rows pay; None until somebody asks after a step.
    cap: int | None = None


class CostModel:
    """Learns from every step.

    Args:
        most_rows: What memory, or the operator, allows at most.
    """

    def __init__(self, *, most_rows: int) -> None:
        self._most_rows = most_rows
        #: In the order in which they were last seen.
        self._curves: OrderedDict[Hashable, _Curve] = OrderedDict()

    def observe(self, key: Hashable, rows: int, seconds: float) -> None:
        """Learn from a step with so many rows."""
        curve = self._remembered(key)
        curve.steps += 1
        steps = curve.by_rows.setdefault(rows, _Steps())
        steps.seconds.append(seconds)
        steps.median_seconds = statistics.median(steps.seconds)
        steps.seen_at = curve.steps
        # The fewest rows are kept: they tell what is the least that a step takes.
        for other in sorted(curve.by_rows)[1:]:
            if curve.steps > curve.by_rows[other].seen_at + FORGOTTEN_STEPS:
                del curve.by_rows[other]
        curve.counts = sorted(curve.by_rows)
        curve.cap = None

    def halve(self, key: Hashable, rows: int) -> None:
        """Learn that memory did not suffice for so many rows: half as many are tried, and much later more again."""
        curve = self._remembered(key)
        curve.most_rows, curve.halved_at = max(1, rows // 2), curve.steps
        curve.cap = None

    def seconds(self, key: Hashable, rows: int) -> float:
        """Predict a step: between what was measured along lines, beyond in proportion; 0 where nothing is known."""
        curve = self._curves.get(key, _Curve())
        counts, by_rows = curve.counts, curve.by_rows
        if not counts:
            return 0.0
        place = bisect_left(counts, rows)
        if place == len(counts):
            most = counts[-1]
            return by_rows[most].median_seconds * rows / most
        after = counts[place]
        if after == rows or place == 0:
            # What fewer rows than were ever seen would take is not known: never more.
            return by_rows[after].median_seconds
        before = counts[place - 1]
        share = (rows - before) / (after - before)
        return (1 - share) * by_rows[before].median_seconds + share * by_rows[after].median_seconds

    def cap(self, key: Hashable) -> int:
        """Say how many rows pay: the fewest that reach nearly the best throughput, in steps that are not too long.

        While the most that were ever tried are clearly better than half as many, twice as many are tried next.
        """
        curve = self._curves.get(key, _Curve())
        if curve.cap is None:
            curve.cap = self._find_cap(curve)
        return curve.cap

    def _find_cap(self, curve: _Curve) -> int:
        most = min(self._most_rows, self._memory_allows(curve))
        trusted = {rows for rows, steps in curve.by_rows.items() if len(steps.seconds) >= TRUSTED_STEPS}
        tried = [rows for rows in sorted(trusted or curve.counts) if rows <= most]
        seconds = {rows: curve.by_rows[rows].median_seconds for rows in tried}
        longest = max(LONGEST_STEP_SECONDS, LONGER * min(seconds.values(), default=0.0))
        throughputs = {rows: rows / each for rows, each in seconds.items() if 0 < each <= longest}
        if not throughputs:
            return 1
        best = max(throughputs.values())
        fewest = min(rows for rows, throughput in throughputs.items() if throughput >= GOOD_SHARE * best)
        return min(most, 2 * fewest) if fewest == tried[-1] else fewest

    def _memory_allows(self, curve: _Curve) -> int:
        if curve.most_rows is None:
            return self._most_rows
        forgiven = (curve.steps - curve.halved_at) // FORGOTTEN_STEPS
        return curve.most_rows << min(forgiven, self._most_rows.bit_length())

    def _remembered(self, key: Hashable) -> _Curve:
        curve = self._curves.setdefault(key, _Curve())
        self._curves.move_to_end(key)
        if len(self._curves) > MOST_SHAPES:
            self._curves.popitem(last=False)
        return curve

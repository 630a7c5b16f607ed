"""Who is in the next batch: rows of one shape fit into one, and each shape has its turn."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from inference.engine.adapter import SampleState
from inference.engine.cost_model import CostModel

#: What takes longer than so many times what it would take in full batches, shapes taking equal turns, is late.
SLACK = 3.0


class Member(SampleState, Protocol):
    """A picture that is being drawn. Times are in seconds, of the clock that the engine is driven with."""

    @property
    def arrived(self) -> float:
        """When its request came."""
        ...

    @property
    def alone(self) -> bool:
        """Whether no other may be in its batch."""
        ...


M = TypeVar("M", bound=Member)


@dataclass(frozen=True, slots=True)
class Batch(Generic[M]):
    """Whose rows are evaluated together: at least one picture, the one that is due first first."""

    members: Sequence[M]

    @property
    def key(self) -> Hashable:
        """What they have in common."""
        return self.members[0].key

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(member.rows for member in self.members)


@dataclass(eq=False, slots=True)
class _Bucket(Generic[M]):
    """Pictures that fit into one batch."""

    members: list[M] = field(default_factory=list)
    #: Device time that it may take, in seconds; below 0 if it took more than predicted.
    credit: float = 0.0


class Buckets(Generic[M]):
    """Shares device time between shapes.

    By deficit round robin (Shreedhar and Varghese 1995): in each round a bucket is given time in proportion to its
    pictures, and more if they have waited; it is served once it can pay for a batch. So a large picture neither blocks
    many small ones nor waits for them for ever. What is late goes first, whatever its bucket may pay.
    """

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        #: In the order of their turns.
        self._buckets: dict[Hashable, _Bucket[M]] = {}

    def __len__(self) -> int:
        return sum(len(bucket.members) for bucket in self._buckets.values())

    def add(self, member: M) -> None:
        """Take a picture in."""
        self._buckets.setdefault(member.key, _Bucket()).members.append(member)

    def remove(self, member: M) -> None:
        """Leave a picture out from now on; a bucket without any loses its credit."""
        bucket = self._buckets[member.key]
        bucket.members.remove(member)
        if not bucket.members:
            del self._buckets[member.key]

    def choose(self, now: float) -> Batch[M] | None:
        """Choose the next batch, or None if there is nothing to do."""
        if not self._buckets:
            return None
        batches = {key: self._fill(bucket) for key, bucket in self._buckets.items()}
        first = min(batches.values(), key=lambda batch: self._due(batch.members[0]))
        if self._due(first.members[0]) < now:
            return first
        prices = {key: self._costs.seconds(key, batch.rows) for key, batch in batches.items()}
        round_seconds = max(prices.values())
        while True:
            key, bucket = next(iter(self._buckets.items()))
            if bucket.credit >= prices[key]:
                return batches[key]
            bucket.credit += round_seconds * len(bucket.members) / len(self) * (1 + self._age(batches[key], now))
            self._buckets[key] = self._buckets.pop(key)

    def charge(self, key: Hashable, seconds: float) -> None:
        """Have a bucket pay for what it took."""
        if bucket := self._buckets.get(key):
            # Who was late did not pay in advance: that leaves a debt of one batch, and not of all that it was late for.
            bucket.credit = max(bucket.credit - seconds, -seconds)

    def _fill(self, bucket: _Bucket[M]) -> Batch[M]:
        """Take as many pictures as pay, whole, those due first first; what one leaves over may fit another."""
        first, *others = sorted(bucket.members, key=self._due)
        members, room = [first], self._costs.cap(first.key) - first.rows
        for member in () if first.alone else others:
            if member.rows <= room and not member.alone:
                members.append(member)
                room -= member.rows
        return Batch(members)

    def _age(self, batch: Batch[M], now: float) -> float:
        """Say how much of its slack the first of a batch has used up, from 0 to 1."""
        first = batch.members[0]
        slack = self._due(first) - first.arrived
        return (now - first.arrived) / slack if slack else 0.0

    def _due(self, member: M) -> float:
        step_seconds = self._costs.seconds(member.key, max(member.rows, self._costs.cap(member.key)))
        return member.arrived + SLACK * member.evaluations * step_seconds * len(self._buckets)

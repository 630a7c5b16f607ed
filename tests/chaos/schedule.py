"""What breaks when: a pure function of the seed."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Component(StrEnum):
    """What can be broken."""

    GATEWAY = "gateway"
    GATEWAY_2 = "gateway-2"
    WORKER = "worker"
    WORKER_2 = "worker-2"
    NATS = "nats"
    POSTGRES = "postgres"
    S3 = "s3"


class Action(StrEnum):
    """How it is broken. Each counts as one kill."""

    #: SIGKILL for it and its children, and started again after a while.
    KILL = "kill"
    #: SIGSTOP for it and its children, and SIGCONT after a while.
    FREEZE = "freeze"
    #: Asked to stop in order, and started again.
    RESTART = "restart"
    #: NATS alone: killed, all that it stored deleted, and started again.
    WIPE = "wipe"


#: Everything that can happen.
BLOWS = (
    *itertools.product(Component, (Action.KILL, Action.FREEZE, Action.RESTART)),
    (Component.NATS, Action.WIPE),
)

#: Most outages are short; some are longer than any lease.
SHORT_SECONDS = (0.0, 1.5)
LONG_SECONDS = (2.5, 5.0)
LONG_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """One thing that the nemesis does."""

    number: int
    #: After the strike before, as a multiple of the run's pace.
    pause: float
    component: Component
    action: Action
    #: How long it stays dead or frozen.
    outage_seconds: float

    def __str__(self) -> str:
        return f"{self.action} {self.component} for {self.outage_seconds:.1f} s"


def plan(*, seed: int, kills: int) -> Sequence[Strike]:
    """Plan a run; a longer one with the same seed begins with the same strikes."""
    return list(itertools.islice(_strikes(random.Random(seed)), kills))


def _strikes(chance: random.Random) -> Iterator[Strike]:
    for number, (component, action) in enumerate(_blows(chance), start=1):
        yield Strike(
            number=number,
            pause=chance.uniform(0.1, 1.9),
            component=component,
            action=action,
            outage_seconds=round(_outage(chance, action), 3),
        )


def _blows(chance: random.Random) -> Iterator[tuple[Component, Action]]:
    """Deal all blows in a random order, again and again, so that none is rare."""
    while True:
        yield from chance.sample(BLOWS, k=len(BLOWS))


def _outage(chance: random.Random, action: Action) -> float:
    is_long = chance.random() < LONG_SHARE
    seconds = chance.uniform(*(LONG_SECONDS if is_long else SHORT_SECONDS))
    return 0.0 if action == Action.RESTART else seconds

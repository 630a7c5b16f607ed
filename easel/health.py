"""Whether a process lives and is ready: noted on its event loop, asked for by probes from threads of their own."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: So long may an event loop be busy with one thing before its process is not worth keeping.
EVENT_LOOP_PATIENCE_SECONDS = 60.0

#: Says in a few words what is wrong; nothing when nothing is.
Check = Callable[[], str]


class Sighting:
    """Something that shows itself again and again while all is well.

    Args:
        patience_seconds: How long it may stay away once it was there.
    """

    def __init__(self, *, patience_seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._seen_at: float | None = None

    def note(self) -> None:
        """Take note that it is there."""
        self._seen_at = self._clock()

    def __call__(self) -> str:
        """Say whether it has not been there for too long."""
        if self._seen_at is None:
            return "not yet"
        away_seconds = self._clock() - self._seen_at
        return f"not for {away_seconds:.0f} s" if away_seconds > self._patience_seconds else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What checks came to: what is wrong by their names, and nothing where all is well."""

    found: Mapping[str, str]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.found.values())

    def __str__(self) -> str:
        """Give a line to each check."""
        return "".join(f"{'no' if wrong else 'ok'} {name}: {wrong or 'ok'}\n" for name, wrong in self.found.items())


class Health:
    """What a process needs to be kept, and what it needs to be given work."""

    def __init__(self) -> None:
        self.event_loop = Sighting(patience_seconds=EVENT_LOOP_PATIENCE_SECONDS)
        self._liveness: dict[str, Check] = {"event loop": self.event_loop}
        self._readiness: dict[str, Check] = {}
        self._stopping = False

    def require_to_live(self, name: str, check: Check) -> None:
        """Have the process started anew when this fails. Checks are called on any thread, and answer at once."""
        self._liveness[name] = check

    def require_to_be_ready(self, name: str, check: Check) -> None:
        """Have the process left alone while this fails."""
        self._readiness[name] = check

    def stop(self) -> None:
        """Note that the process is about to end: it is not ready any more."""
        self._stopping = True

    def liveness(self) -> Verdict:
        """Say whether the process is worth keeping."""
        return Verdict(found={name: check() for name, check in self._liveness.items()})

    def readiness(self) -> Verdict:
        """Say whether the process can be given work."""
        found = {name: check() for name, check in self._readiness.items()}
        return Verdict(found={**found, "stopping": "it is"} if self._stopping else found)

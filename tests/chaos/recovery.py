"""How long it takes until a request gets its picture again."""

import random
from collections.abc import Mapping

from tests.chaos.caller import Caller, GaveUp, Position, Switchboard
from tests.chaos.journal import Journal
from tests.chaos.schedule import Strike
from tests.chaos.wishes import probe


class Recovery:
    """Sends a healthy request at the moment when a component is let go, and waits for its picture."""

    def __init__(self, targets: Mapping[str, str], journal: Journal) -> None:
        self._targets = targets
        self._journal = journal

    async def probe(self, strike: Strike) -> float | None:
        """Send one, and say after how many seconds its picture was there; None when it never came."""
        began = self._journal.now
        targets = {name: target for name, target in self._targets.items() if name == strike.component}
        async with Switchboard(targets or self._targets) as switchboard:
            caller = Caller(f"probe-{strike.number}", switchboard.gateways, self._journal, random.Random(strike.number))
            wish = probe()
            caller.announce(wish)
            try:
                generation = await caller.create(wish)
                await caller.watch_to_the_end(Position(generation_id=generation.id))
            except GaveUp:
                return None
        return self._journal.now - began

"""`python -m tests.scripted`: the real worker process with a scripted model, and without torch.

`STOP_AT=after_put` has it stop itself at that crash point, the first time that it comes there, as by SIGSTOP: a worker
that hangs, and comes back to just where it was.
"""

import os
import signal
import sys

from easel import crash
from easel.crash import CrashPoint
from inference import __main__ as process
from inference.models import Card, ModelSource
from tests.scripted.adapter import ScriptedAdapter

MODEL = ModelSource(card=Card(name="scripted", description="Draws what its script says."), load=ScriptedAdapter)


def stop_at(stop: CrashPoint) -> None:
    reach = crash.reach

    def stop_or_reach(point: CrashPoint) -> None:
        if point == stop:
            crash.reach = reach
            os.kill(os.getpid(), signal.SIGSTOP)
        reach(point)

    crash.reach = stop_or_reach


if __name__ == "__main__":
    if point := os.environ.get("STOP_AT"):
        stop_at(CrashPoint(point))
    process.end(process.main(sys.argv[1:], model=MODEL))

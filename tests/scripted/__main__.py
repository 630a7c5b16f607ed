"""`python -m tests.scripted`: the real worker process with a scripted model, and without torch."""

import sys

from inference import __main__ as process
from inference.models import Card, ModelSource
from tests.scripted.adapter import ScriptedAdapter

MODEL = ModelSource(card=Card(name="scripted", description="Draws what its script says."), load=ScriptedAdapter)

if __name__ == "__main__":
    process.end(process.main(sys.argv[1:], model=MODEL))

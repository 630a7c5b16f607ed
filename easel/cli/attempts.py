"""`easel attempts`: what became of each attempt at a generation."""

import contextlib
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from easel.cli.description import describe_attempt, print_json
from easel.cli.run import run
from easel.cli.terminal import (
    ACCENT,
    MUTED,
    Output,
    age,
    attempt_seconds,
    failure_name,
    outcome_text,
    phase_name,
    precise,
    printable,
    show_table,
)
from easel.client import Attempt, AttemptOutcome, Client, Phase

#: The name of a worker that is longer than this is shortened.
LONGEST_WORKER = 20

#: What is known of attempts that tell nothing themselves.
_MEANINGS = {
    AttemptOutcome.ATTEMPT_OUTCOME_LOST: "its worker died, hung or was cut off",
    AttemptOutcome.ATTEMPT_OUTCOME_RELEASED: "its worker shut down and handed it back",
    AttemptOutcome.ATTEMPT_OUTCOME_STOPPED: "nobody needed it any more",
}


def attempts(generation_id: str, *, target: str, as_json: bool) -> None:
    """Run the command.

    Raises:
        typer.Exit: it failed, and one line was printed that says how.
    """
    found = run(_collect(generation_id, target=target), target=target)
    if as_json:
        for attempt in found:
            print_json(describe_attempt(attempt, generation_id=generation_id))
    elif found:
        show_table(Output(), table(found))
    else:
        Output().print("No worker has started on it yet.")


def table(found: Sequence[Attempt]) -> Table:
    """Lay out attempts, one a line."""
    result = Table(box=SIMPLE_HEAD, header_style=MUTED, pad_edge=False)
    for name in ("", "outcome", "age", "took"):
        result.add_column(name, no_wrap=True, justify="left" if name == "outcome" else "right")
    result.add_column("worker", no_wrap=True)
    # The only one that is made narrower where there is too little room.
    result.add_column("what happened")
    for attempt in found:
        result.add_row(
            Text(str(attempt.number), style=ACCENT),
            Text.assemble(outcome_text(attempt), (" alone", MUTED) if attempt.alone else ""),
            age(attempt.start_time),
            precise(attempt_seconds(attempt)),
            Text(_worker(attempt)),
            Text(printable(" · ".join(filter(None, (_reached(attempt), _why(attempt)))))),
        )
    return result


def _worker(attempt: Attempt) -> str:
    """Shorten a worker's name; what tells its runs apart is at the end."""
    worker = printable(attempt.worker_id)
    return worker if len(worker) <= LONGEST_WORKER else "…" + worker[1 - LONGEST_WORKER :]


def _reached(attempt: Attempt) -> str:
    if not attempt.HasField("progress"):
        return ""
    progress = attempt.progress
    steps = f" {progress.step}/{progress.steps}" if progress.phase == Phase.PHASE_DENOISING else ""
    return phase_name(progress.phase) + steps


def _why(attempt: Attempt) -> str:
    if attempt.HasField("failure"):
        return f"{failure_name(attempt.failure)}: {attempt.failure.message}"
    return _MEANINGS.get(attempt.outcome, "")


async def _collect(generation_id: str, *, target: str) -> list[Attempt]:
    async with Client(target) as client, contextlib.aclosing(client.list_attempts(generation_id)) as found:
        return [attempt async for attempt in found]

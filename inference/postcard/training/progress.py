"""Shows how far long work has come."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Where there is no terminal, a line is printed so often.
LINE_SECONDS = 60.0


class Bars:
    """One bar for each part of the work; without a terminal, a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @classmethod
    def silent(cls) -> "Bars":
        """Show nothing."""
        return cls(Console(quiet=True))

    @contextmanager
    def task(self, name: str, steps: int, done: int = 0) -> Iterator["Bar"]:
        """Show a bar while the body runs."""
        columns = (
            TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task(name, total=steps, completed=done, figures="")
            yield Bar(progress, task)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True)


class Bar:
    """How far one part has come."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._id = task
        self._line_due = time.monotonic()

    def advance(self, **figures: float) -> None:
        """Go one step on, and show the latest figures."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._progress.update(self._id, advance=1, figures=shown)
        if self._progress.disable and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_SECONDS
            task = self._progress.tasks[self._id]
            self._progress.console.print(
                f"{task.description} {task.completed:.0f}/{task.total:.0f}  {shown}", highlight=False, soft_wrap=True
            )

"""How several generations are shown while they are drawn: a bar for each under way, and one for them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from easel.cli.display import FRAMES_PER_SECOND, Bar, Display, bars_on
from easel.cli.terminal import ACCENT, MUTED, cause, lasted_seconds, precise, shortened
from easel.client import EaselError, Event, Generation, Model

BAR_WIDTH = 16

#: A prompt in a line with other things is no longer than this.
LONGEST_PROMPT = 60

#: The part of a terminal's width that prompts beside bars take.
PROMPT_PART = 3

#: The lines of a terminal that are not for bars: what they add up to, and how many do not fit.
LINES_BELOW = 3


@dataclass
class Tally:
    """How far several generations have come."""

    total: int
    drawn: int = 0
    failed: int = 0
    under_way: int = 0

    @property
    def ended(self) -> int:
        """How many are over."""
        return self.drawn + self.failed

    def __str__(self) -> str:
        waiting = self.total - self.ended - self.under_way
        others = {"failed": self.failed, "under way": self.under_way, "waiting": waiting}
        return " · ".join([f"{self.drawn}/{self.total} drawn", *(f"{n} {name}" for name, n in others.items() if n)])


class Bars(Protocol):
    """Shows several generations while they are drawn; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, prompt: str) -> Display:
        """Show one more of them."""

    def refused(self, prompt: str, why: str) -> None:
        """Show that one of them was not accepted."""

    def held_up(self, error: EaselError | None) -> None:
        """Show that no more are accepted at present; or, with None, that they are again."""


def bars_for(console: Console, *, total: int, models: Sequence[Model]) -> "LiveBars | PlainBars":
    """Choose how to show so many generations on a console."""
    by_name = {model.name: model for model in models}
    return LiveBars(console, by_name, total=total) if console.is_terminal else PlainBars(console, total=total)


class LiveBars:
    """Bars on a terminal, as many as fit; what is over goes up as a line of text."""

    def __init__(self, console: Console, models: Mapping[str, Model], *, total: int) -> None:
        self._console = console
        self._models = models
        self._tally = Tally(total)
        self._trouble = ""
        width = console.width // PROMPT_PART
        prompts = TextColumn(
            "{task.fields[prompt]}",
            markup=False,
            table_column=Column(width=width, no_wrap=True, overflow="ellipsis"),
        )
        self._bars = bars_on(console, prompts, bar_width=BAR_WIDTH)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=FRAMES_PER_SECOND)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, prompt: str) -> Display:
        """Add a bar."""
        self._tally.under_way += 1
        return OneOfBars(self._bars, self._models, prompt=shortened(prompt, LONGEST_PROMPT), owner=self)

    def refused(self, prompt: str, why: str) -> None:
        """Print a line."""
        self._tally.failed += 1
        self.print_failed(prompt, why)

    def held_up(self, error: EaselError | None) -> None:
        """Say so below the bars."""
        self._trouble = "" if error is None else f"waiting: {cause(error)}"

    def over(self, *, drawn: bool) -> None:
        """Count one that is under way no more."""
        self._tally.under_way -= 1
        self._tally.drawn += drawn
        self._tally.failed += not drawn

    def print_drawn(self, generation: Generation, prompt: str, paths: Sequence[Path]) -> None:
        """Print a line for one that is drawn."""
        took = precise(lasted_seconds(generation))
        files = Text(", ").join(Text(str(path), style=f"bold {ACCENT}") for path in paths)
        line = Text.assemble(("✔ ", "green"), files, (f"  {took}  ", MUTED), shortened(prompt, LONGEST_PROMPT))
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def print_failed(self, prompt: str, why: str) -> None:
        """Print a line for one that nothing came of."""
        what = shortened(prompt, LONGEST_PROMPT)
        self._console.print(Text.assemble(("✘ ", "red"), what, (f"  {why}", "red")), soft_wrap=True)

    def _render(self) -> RenderableType:
        tasks = self._bars.tasks
        room = max(1, self._console.height - LINES_BELOW)
        shown: list[RenderableType] = [self._bars.make_tasks_table(tasks[:room])] if tasks else []
        if len(tasks) > room:
            shown.append(Text(f"… and {len(tasks) - room} more", style=MUTED))
        if self._trouble:
            shown.append(Text(self._trouble, style="yellow"))
        return Group(*shown, self._sum())

    def _sum(self) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        # As wide as what stands before the bars: a spinner, a prompt, a word.
        line.add_column(width=self._console.width // PROMPT_PART + 15, style="bold")
        line.add_column()
        line.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(
            self._tally.total, self._tally.ended, width=BAR_WIDTH, complete_style=ACCENT, finished_style="green"
        )
        line.add_row("in all", bar, Text(str(self._tally), style=MUTED))
        return line


class OneOfBars(Bar):
    """A bar that goes away when its generation is over."""

    def __init__(self, bars: Progress, models: Mapping[str, Model], *, prompt: str, owner: LiveBars) -> None:
        super().__init__(bars, models, prompt=prompt)
        self._prompt = prompt
        self._owner = owner

    def done(self, generation: Generation, paths: Sequence[Path]) -> None:
        """Make room, and print a line."""
        self._leave(drawn=True)
        self._owner.print_drawn(generation, self._prompt, paths)

    def failed(self, error: EaselError) -> None:
        """Make room, and print a line."""
        self._leave(drawn=False)
        self._owner.print_failed(self._prompt, str(error))

    def _leave(self, *, drawn: bool) -> None:
        self._bars.remove_task(self._task)
        self._owner.over(drawn=drawn)


class PlainBars:
    """A line for each that is over, for logs and pipes."""

    def __init__(self, console: Console, *, total: int) -> None:
        self._console = console
        self._tally = Tally(total)
        self._is_held_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, prompt: str) -> Display:
        """Wait for its end."""
        return _PlainBar(prompt, owner=self)

    def refused(self, prompt: str, why: str) -> None:
        """Print a line."""
        self.failed(prompt, why)

    def held_up(self, error: EaselError | None) -> None:
        """Print a line when it begins."""
        if error is not None and not self._is_held_up:
            self._print(f"waiting: {cause(error)}")
        self._is_held_up = error is not None

    def drawn(self, prompt: str, paths: Sequence[Path]) -> None:
        """Print a line."""
        self._tally.drawn += 1
        self._print(f"{self._count} drawn {', '.join(map(str, paths))} {shortened(prompt, LONGEST_PROMPT)}")

    def failed(self, prompt: str, why: str) -> None:
        """Print a line."""
        self._tally.failed += 1
        self._print(f"{self._count} failed {shortened(prompt, LONGEST_PROMPT)}: {why}")

    @property
    def _count(self) -> str:
        return f"{self._tally.ended}/{self._tally.total}"

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


class _PlainBar:
    """One of several generations, whose end alone is told."""

    def __init__(self, prompt: str, *, owner: PlainBars) -> None:
        self._prompt = prompt
        self._owner = owner

    def show(self, event: Event) -> None: ...

    def outage(self, error: EaselError | None) -> None: ...

    def downloading(self) -> None: ...

    def done(self, generation: Generation, paths: Sequence[Path]) -> None:  # noqa: ARG002  # a Display's signature
        self._owner.drawn(self._prompt, paths)

    def failed(self, error: EaselError) -> None:
        self._owner.failed(self._prompt, str(error))

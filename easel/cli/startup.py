"""What people see while a stack starts: a line for each process, with a mark once it is ready."""

import asyncio
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from easel.cli.terminal import ACCENT, MUTED, precise
from easel.embedded import Process, Stack
from easel.embedded.process import READY, STOPPED

#: A stop that takes longer than this is worth a word of why.
SHORT_STOP_SECONDS = 1.0

FINISHING = "finishing what is being drawn; Ctrl-C again to stop at once"


async def start(stack: Stack, *, console: Console) -> float:
    """Start a stack, show how it goes, and return how many seconds it took.

    Raises:
        StackFailed: what failed, and which log to read.
    """
    began = time.monotonic()
    if console.is_terminal:
        board = Board(stack)
        with Live(get_renderable=board.render, console=console, refresh_per_second=10, transient=True):
            await stack.start()
    else:
        console.print(f"starting in {stack.servers.folder.path}", soft_wrap=True, markup=False)
        await stack.start()
    return time.monotonic() - began


async def stop(stack: Stack, *, console: Console) -> None:
    """Stop a stack, with a word about it where somebody watches, and anywhere when a worker keeps it waiting."""
    with console.status("stopping", spinner_style=ACCENT) as status:

        def explain() -> None:
            if not any(worker.is_running for worker in stack.workers):
                return
            status.update(FINISHING)
            if not console.is_terminal:
                console.print(FINISHING)

        explanation = asyncio.get_running_loop().call_later(SHORT_STOP_SECONDS, explain)
        try:
            await stack.stop()
        finally:
            explanation.cancel()


class Board:
    """The processes of a stack that the current task starts, as a table that changes."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._task = asyncio.current_task()
        self._began = time.monotonic()
        self._ready_seconds: dict[str, float] = {}
        self._spinner = Spinner("dots", style=ACCENT)

    def render(self) -> RenderableType:
        """Draw the table as things stand."""
        table = Table.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column(min_width=10)
        table.add_column(style=MUTED)
        table.add_column(style=MUTED, justify="right")
        for process in reversed(self._stack.processes):
            table.add_row(*self._row(process))
        return Group(Text(f"{'Stopping' if self._is_stopping else 'Starting'} Easel's parts", style="bold"), table)

    @property
    def _is_stopping(self) -> bool:
        """Whether somebody ended the start; a start that was ended stops everything before it returns."""
        return self._task is not None and self._task.cancelling() > 0

    def _row(self, process: Process) -> tuple[RenderableType, ...]:
        if self._is_stopping:
            return self._spinner, process.name, STOPPED if process.activity == STOPPED else "stopping", ""
        seconds = time.monotonic() - self._began
        if process.activity != READY:
            return self._spinner, process.name, process.activity, precise(seconds)
        seconds = self._ready_seconds.setdefault(process.name, seconds)
        return Text("✔", style="green"), process.name, process.activity, precise(seconds)

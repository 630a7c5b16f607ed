"""Signals that end a command in good order: what is under way is undone, and the terminal is left as it was found."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import typer

from easel.cli.exits import TERMINATED


class Terminated(typer.Exit):
    """SIGTERM or SIGHUP ended the command."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


@contextlib.contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task on SIGTERM and SIGHUP, as asyncio does on Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None, "there is a task wherever there is a coroutine"  # noqa: S101
    loop = asyncio.get_running_loop()
    # What is ignored stays so: that is how nohup works.
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

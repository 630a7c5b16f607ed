"""Running a command that talks to the service, and ending it in good order whatever happens."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from easel.cli.exits import BAD_REQUEST, NO_PICTURE, UNAVAILABLE, complain
from easel.cli.signals import Terminated, cancelled_by_signals
from easel.cli.terminal import cause
from easel.client import (
    Conflict,
    DeadlineExceeded,
    Denied,
    EaselError,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
)

Result = TypeVar("Result")

#: What a violation is about, for those who speak of options and know of no spec.
_INSIDE = re.compile(r"^(requests\[\d+\]\.)?(spec\.)?")

#: Any error that is not listed, nor a kind of one that is, ends in NO_PICTURE.
STATUSES: dict[type[EaselError], int] = {
    InvalidRequest: BAD_REQUEST,
    NotFound: BAD_REQUEST,
    Conflict: BAD_REQUEST,
    FailedPrecondition: BAD_REQUEST,
    Denied: BAD_REQUEST,
    Unsupported: BAD_REQUEST,
    Exhausted: UNAVAILABLE,
    Unavailable: UNAVAILABLE,
    DeadlineExceeded: UNAVAILABLE,
}


def run(command: Coroutine[Any, Any, Result], *, target: str) -> Result:
    """Run a command to its end.

    Raises:
        typer.Exit: it failed, and one line was printed that says how.
        KeyboardInterrupt: the user ended it.
        Terminated: SIGTERM or SIGHUP ended it.
    """
    try:
        return asyncio.run(_stoppable(command))
    except asyncio.CancelledError:
        raise Terminated from None
    except EaselError as error:
        complain(say(error, target=target))
        raise typer.Exit(status_of(error)) from error


async def _stoppable(command: Coroutine[Any, Any, Result]) -> Result:
    with cancelled_by_signals():
        return await command


def status_of(error: EaselError) -> int:
    """Return the exit status that an error ends in."""
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), NO_PICTURE)


def say(error: EaselError, *, target: str) -> str:
    """Say in one line what went wrong, and what to do about it."""
    if isinstance(error, Unavailable) and not error.reason:
        why = cause(error)
        return f"no service answers at {target} ({why}): start one with `easel up`, or name another with --target"
    if isinstance(error, InvalidRequest) and error.violations:
        return "; ".join(_INSIDE.sub("", str(violation)) for violation in error.violations)
    if isinstance(error, Exhausted | Unavailable) and error.retry_after_seconds is not None:
        return f"{error} (try again in {error.retry_after_seconds:g} s)"
    return str(error)

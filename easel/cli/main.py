"""The command line `easel`.

The commands are declared in `easel.cli.commands`; everything heavy is imported inside them, so that `easel --help`
stays quick.
"""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from easel import __version__
from easel.cli.commands import drawing, generations, service
from easel.cli.exits import BAD_REQUEST, INTERRUPTED, NO_PICTURE, complain


class OneLineErrors(TyperGroup):
    """Commands whose wrong usage is told in one line, and so is an output that cannot be written."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command and end the process with its exit status."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            status = super().main(given, *rest, **extra | {"standalone_mode": False})
            sys.stdout.flush()
        except typer.TyperException as error:
            complain(error.format_message())
            status = BAD_REQUEST
        except typer.Abort:
            status = INTERRUPTED
        except UnicodeEncodeError as error:
            complain(f"{error.object!r} is not UTF-8")
            status = BAD_REQUEST
        except OSError as error:
            tell_of(error)
            status = NO_PICTURE
        sys.exit(status if isinstance(status, int) else 0)


def print_version(asked: bool) -> None:
    """Print the version and end, if asked to."""
    if asked:
        print("easel", __version__)
        raise typer.Exit


app = typer.Typer(
    name="easel",
    help="Easel: text-to-image for backend teams.",
    epilog="Exit status: 0 done, 1 no picture, 2 wrong arguments or request, 3 service away or full, 130 interrupted, "
    "143 terminated.",
    cls=OneLineErrors,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", is_eager=True, callback=print_version, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that go before a command."""


for group in (drawing, generations, service):
    app.add_typer(group.commands)


def tell_of(error: OSError) -> None:
    """Say what the system refused; who reads no more of the output need not hear of it."""
    if not isinstance(error, BrokenPipeError):
        complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    with contextlib.suppress(OSError):  # what is still to be written is not tried again when the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def prepare_streams() -> None:
    """Put nothing in the place of streams that are closed, and have `?` printed for what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def main() -> None:
    """Run the command line; the console script `easel`."""
    prepare_streams()
    app(prog_name="easel")

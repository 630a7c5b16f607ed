"""The command line `easel`.

The commands are declared in `easel.cli.commands`; everything heavy is imported inside them, so that `easel --help`
stays quick.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from easel.cli.commands import drawing, generations, service
from easel.cli.exits import BAD_REQUEST, INTERRUPTED, complain


class OneLineErrors(TyperGroup):
    """Commands whose wrong usage is told in one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command and end the process with its exit status."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            status = super().main(given, *rest, **extra | {"standalone_mode": False})
        except typer.TyperException as error:
            complain(error.format_message())
            status = BAD_REQUEST
        except typer.Abort:
            status = INTERRUPTED
        sys.exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    name="easel",
    help="Easel: text-to-image for backend teams.",
    epilog="Exit status: 0 done, 1 no picture, 2 wrong arguments or request, 3 service away or full, 130 interrupted.",
    cls=OneLineErrors,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", is_eager=True, callback=service.print_version, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that go before a command."""


for group in (drawing, generations, service):
    app.add_typer(group.commands)


def main() -> None:
    """Run the command line; the console script `easel`."""
    app(prog_name="easel")

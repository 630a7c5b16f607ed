"""The page of the command line, made from its help."""

from collections.abc import Iterator

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from easel.cli.main import app
from scripts.reference import markdown

#: Of the lines that show the usage: not that of the terminal where this runs.
WIDTH = 100


def page() -> str:
    """Make the page."""
    easel = get_command(app)
    assert isinstance(easel, TyperGroup)  # noqa: S101
    commands = [one for one in easel.commands.values() if isinstance(one, TyperCommand) and not one.hidden]
    links = [(f"[`easel {one.name}`](#easel-{one.name})", _first_sentence(one)) for one in commands]
    return markdown.page(
        "Command line",
        easel.help or "",
        easel.epilog or "",
        markdown.table(("Command", "What it does"), links),
        *(part for command in commands for part in _command(command)),
        source="easel/cli/main.py",
    )


def _first_sentence(command: TyperCommand) -> str:
    return (command.help or "").partition("\n\n")[0]


def _command(command: TyperCommand) -> Iterator[str]:
    context = command.make_context(f"easel {command.name}", [], resilient_parsing=True, terminal_width=WIDTH)
    yield f"## easel {command.name}"
    yield command.help or ""
    yield f"```console\n$ {context.get_usage().removeprefix('Usage: ')}\n```"
    records = [record for one in command.params if (record := one.get_help_record(context)) is not None]
    if records:
        yield markdown.table(("Argument or option", "Meaning"), [(markdown.code(name), text) for name, text in records])

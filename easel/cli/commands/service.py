"""The commands that run the service, or look after it."""

from pathlib import Path
from typing import Annotated

import typer

from easel.cli.arguments import DEFAULT_TARGET, Json, Target
from easel.cli.installed import become, needs_local

PANEL = "The service"
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def up(
    *,
    data: Annotated[Path, typer.Option(help="The folder in which everything is kept.")] = Path(".easel"),
    workers: Annotated[int, typer.Option(min=1, help="How many workers.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0 takes a free one.")] = 50051,
    model: Annotated[
        str | None, typer.Option(help="A diffusers folder or hub id; EASEL_MODEL or postcard when absent.")
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Run Prometheus too, with Easel's rules, where it is installed.")
    ] = False,
) -> None:
    """Run the whole service here until Ctrl-C; what it keeps is there again the next time."""
    needs_local("up")
    from easel.cli import up as command

    command.up(folder=data, workers=workers, port=port, model=model, observe=observe)


@commands.command(context_settings=PASS_ON, rich_help_panel=PANEL)
def gateway(context: typer.Context) -> None:
    """Run a gateway in the foreground."""
    become("gateway", arguments=context.args)


@commands.command(context_settings=PASS_ON, rich_help_panel=PANEL)
def worker(context: typer.Context) -> None:
    """Run a worker in the foreground; `--devices all` runs one for each GPU, `--devices 0,1` for some."""
    become("inference", arguments=context.args)


@commands.command(rich_help_panel=PANEL)
def migrate() -> None:
    """Bring the database of EASEL_DATABASE_URL to the newest schema."""
    become("gateway", arguments=["migrate"])


@commands.command(rich_help_panel=PANEL)
def doctor(
    *,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Check what Easel needs on this machine and around it, and say what to do about what is wrong."""
    from easel.cli import doctor as command

    command.doctor(target=target, as_json=as_json)

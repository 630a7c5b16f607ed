"""`easel up`: the whole service on this machine until Ctrl-C."""

import asyncio
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from easel import logs
from easel.cli import startup
from easel.cli.exits import NO_PICTURE, complain
from easel.cli.signals import cancelled_by_signals
from easel.cli.terminal import ACCENT, MUTED, Output, precise, show_table
from easel.embedded import Stack, StackFailed, prometheus
from easel.embedded.supervisor import supervise

DEFAULT_PORT = 50051
OBSERVE_SECONDS = 5.0


def up(*, folder: Path, workers: int, port: int, model: str | None, observe: bool) -> None:
    """Run the command; it returns after Ctrl-C or SIGTERM, when everything has stopped.

    Raises:
        typer.Exit: it failed.
    """
    logs.configure(service="easel", level="WARNING")
    observed = observe and prometheus.is_installed()
    if observe and not observed:
        complain("Prometheus is not installed here, so nothing observes the service. On Debian: apt install prometheus")
    stack = Stack(
        folder,
        workers=workers,
        gateway_port=port,
        model=model,
        observed_every_seconds=OBSERVE_SECONDS if observed else None,
    )
    try:
        asyncio.run(_up(stack))
    except StackFailed as error:
        complain(str(error))
        raise typer.Exit(NO_PICTURE) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        return


async def _up(stack: Stack) -> None:
    console = Output()
    with cancelled_by_signals():
        try:
            took_seconds = await startup.start(stack, console=console)
            _show(stack, console=console, took_seconds=took_seconds)
            await supervise(stack, report=lambda line: console.print(line, soft_wrap=True, markup=False))
        finally:
            await startup.stop(stack, console=console)


def _show(stack: Stack, *, console: Console, took_seconds: float) -> None:
    """Show what runs where, and what to do with it."""
    console.print(f"[green]✔[/] Easel is up [{MUTED}]({precise(took_seconds)})[/]\n")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(style=ACCENT, overflow="fold")
    for service in (*stack.gateways, *stack.workers):
        table.add_row(service.name, service.place)
        table.add_row("", service.metrics_url)
    if stack.prometheus is not None:
        table.add_row(stack.prometheus.name, stack.prometheus.place)
    for server in stack.servers.processes:
        table.add_row(server.name, server.place)
    table.add_row("data", str(stack.servers.folder.path))
    table.add_row("logs", str(stack.logs))
    show_table(console, table)
    target = "" if stack.target.endswith(f":{DEFAULT_PORT}") else f" --target {stack.target}"
    console.print(f'\n  Draw a picture: [bold]easel generate "a castle"{target}[/]\n  Ctrl-C stops everything.\n')

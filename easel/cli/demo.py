"""`easel demo`: a stack of its own, one picture, and everything stopped again."""

import asyncio
from pathlib import Path

import typer

from easel import logs
from easel.cli import startup
from easel.cli.drawing import Wishes, draw
from easel.cli.exits import INTERRUPTED, NO_PICTURE, complain
from easel.cli.generate import generating
from easel.cli.run import say
from easel.cli.signals import Terminated, cancelled_by_signals
from easel.cli.terminal import ACCENT, MUTED, Output, precise
from easel.client import EaselError, GenerationSpec
from easel.embedded import Stack, StackFailed


def demo(spec: GenerationSpec, *, out: Path | None, folder: Path) -> None:
    """Run the command.

    Raises:
        typer.BadParameter: nothing can be written at `out`.
        typer.Exit: it failed or was interrupted.
    """
    wishes = Wishes(out=out)
    wishes.check()
    logs.configure(service="easel", level="WARNING")
    stack = Stack(folder)
    try:
        asyncio.run(_demo(stack, spec, wishes))
    except StackFailed as error:
        _fail(str(error))
    except EaselError as error:
        _fail(f"{say(error, target=stack.target)}. The logs are in {stack.logs}")
    except OSError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise Terminated from None


async def _demo(stack: Stack, spec: GenerationSpec, wishes: Wishes) -> None:
    console = Output()
    with cancelled_by_signals():
        try:
            took_seconds = await startup.start(stack, console=console)
            console.print(
                f"[green]✔[/] PostgreSQL, NATS, S3, a gateway and a worker run [{MUTED}]({precise(took_seconds)})[/]"
            )
            console.print(
                f"  [{MUTED}]gateway[/] [{ACCENT}]{stack.target}[/]  [{MUTED}]logs {stack.logs}[/]\n", soft_wrap=True
            )
            await stack.while_all_run(draw(generating(spec), target=stack.target, wishes=wishes, console=console))
        finally:
            await startup.stop(stack, console=console)


def _fail(message: str) -> None:
    complain(message)
    raise typer.Exit(NO_PICTURE)

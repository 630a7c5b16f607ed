"""`easel models`: what can be asked for."""

from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from easel.cli.description import print_json
from easel.cli.run import run
from easel.cli.terminal import ACCENT, MUTED, Output, show_table
from easel.client import Client
from easel.v1.model_pb2 import DoubleRange, IntRange, Model


def models(name: str | None, *, target: str, as_json: bool) -> None:
    """Run the command; with a name, for that model alone.

    Raises:
        typer.Exit: it failed, and one line was printed that says how.
    """
    known = run(_find(name, target=target), target=target)
    if as_json:
        print_json({"models": [_describe(model) for model in known]})
    elif known:
        show(known, console=Output())
    else:
        Output().print("No model is known yet: a model becomes known when its first worker starts.")


def show(known: Sequence[Model], *, console: Console) -> None:
    """Show models in a table, and below it what a request to each may ask for in all."""
    show_table(console, table(known))
    for model in known:
        if model.max_pixel_steps:
            most = f"{model.name}: width x height x steps x pictures is at most {model.max_pixel_steps:,}"
            console.print(Text(most, style=MUTED))


def table(known: Sequence[Model]) -> Table:
    """Lay out models with their defaults and, dimmed, their ranges."""
    result = Table(box=SIMPLE_HEAD, header_style=MUTED, pad_edge=False)
    for name in ("model", "size", "steps", "guidance", "schedulers", "workers"):
        result.add_column(name, justify="right" if name == "workers" else "left", overflow="fold")
    for model in known:
        defaults = model.defaults
        result.add_row(
            Text.assemble(
                (model.name, f"bold {ACCENT}"), ("\n" + model.description if model.description else "", MUTED)
            ),
            _with_range(f"{defaults.width}x{defaults.height}", _size(model)),
            _with_range(str(defaults.steps), _whole(model.steps)),
            _with_range(f"{defaults.guidance_scale:g}", _real(model.guidance_scale)),
            _with_range(defaults.scheduler, ", ".join(name for name in model.schedulers if name != defaults.scheduler)),
            Text(str(model.live_workers), style="green" if model.live_workers else "red"),
        )
    return result


async def _find(name: str | None, *, target: str) -> Sequence[Model]:
    async with Client(target) as client:
        return await client.list_models() if name is None else [await client.get_model(name)]


def _describe(model: Model) -> dict[str, object]:
    described = MessageToDict(model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    # Protobuf's JSON writes whole numbers of 64 bits as texts.
    return described | {"max_pixel_steps": model.max_pixel_steps}


def _with_range(default: str, allowed: str) -> Text:
    return Text.assemble(default, ("\n" + allowed, MUTED))


def _size(model: Model) -> str:
    if model.width == model.height:
        return _whole(model.width)
    return f"{_whole(model.width)} x {_whole(model.height)}"


def _whole(allowed: IntRange) -> str:
    steps = f" by {allowed.multiple_of}" if allowed.multiple_of > 1 else ""
    return f"{allowed.min}-{allowed.max}{steps}"


def _real(allowed: DoubleRange) -> str:
    return f"{allowed.min:g}-{allowed.max:g}"

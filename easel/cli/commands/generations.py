"""The commands on generations that are there already."""

from datetime import datetime
from typing import Annotated

import typer

from easel.cli.arguments import (
    DEFAULT_TARGET,
    Id,
    Ids,
    Json,
    Labels,
    Out,
    Previews,
    Reason,
    RequestId,
    Show,
    ShowAsOption,
    State,
    Target,
    moment,
    open_gallery,
    seconds,
)

PANEL = "Generations"

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def watch(
    generation_id: Id,
    *,
    out: Out = None,
    preview: Previews = None,
    show: Show = False,
    show_as: ShowAsOption = None,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Show what happens to a generation until its end; its pictures are downloaded with --out.

    With --json it prints an object for each thing that happens.
    """
    from easel.cli import watch as command
    from easel.cli.drawing import Wishes

    gallery = open_gallery(show=show, show_as=show_as, as_json=as_json)
    wishes = Wishes(out=out, download=out is not None, previews=preview, gallery=gallery)
    command.watch(generation_id, target=target, wishes=wishes, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def get(
    generation_id: Id,
    *,
    out: Out = None,
    show: Show = False,
    show_as: ShowAsOption = None,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Show a generation as it stands; its pictures are downloaded with --out."""
    from easel.cli import get as command

    gallery = open_gallery(show=show, show_as=show_as, as_json=as_json)
    command.get(generation_id, target=target, out=out, gallery=gallery, as_json=as_json)


@commands.command(name="list", rich_help_panel=PANEL)
def list_generations(
    *,
    states: Annotated[
        list[State] | None,
        typer.Option(
            "--state", metavar="STATE", help=f"In this state, one of {', '.join(State)}; may be given several times."
        ),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Of this model; may be given several times.")
    ] = None,
    reasons: Annotated[
        list[Reason] | None,
        typer.Option(
            "--failure",
            metavar="REASON",
            help=f"Failed for this reason, one of {', '.join(Reason)}; may be given several times.",
        ),
    ] = None,
    labels: Labels = None,
    after: Annotated[
        datetime | None,
        typer.Option(metavar="WHEN", parser=moment, help="Accepted since then: 2h (ago), 2026-01-31, …T18:00."),
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(metavar="WHEN", parser=moment, help="Accepted before then.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 lists them all.")] = 50,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """List generations, newest first; what is given must all hold."""
    from easel.cli import listing as command

    filters = command.make_filters(
        states=states or (), models=models or (), reasons=reasons or (), labels=labels or (), after=after, before=before
    )
    command.list_generations(filters, target=target, limit=limit, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def cancel(generation_ids: Ids, *, target: Target = DEFAULT_TARGET, as_json: Json = False) -> None:
    """Cancel generations; those that are final already stay as they are."""
    from easel.cli import ending as command

    command.cancel(generation_ids, target=target, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def delete(
    generation_ids: Ids,
    *,
    immediately: Annotated[
        bool,
        typer.Option(
            "--immediately", metavar="", help="Remove the files now, and not after the time backups are kept."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Remove final generations and their pictures; on a terminal, after a question."""
    from easel.cli import ending as command

    command.delete(generation_ids, target=target, immediately=immediately, sure=yes, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def retry(
    generation_id: Id,
    *,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", metavar="", help="Watch and download it, or print the new id and end.")
    ] = True,
    out: Out = None,
    preview: Previews = None,
    show: Show = False,
    show_as: ShowAsOption = None,
    request_id: RequestId = "",
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Draw anew what a final generation asked for."""
    from easel.cli import retry as command
    from easel.cli.drawing import Wishes

    gallery = open_gallery(show=show, show_as=show_as, as_json=as_json)
    wishes = Wishes(out=out, previews=preview, gallery=gallery)
    command.retry(generation_id, target=target, wishes=wishes, request_id=request_id, wait=wait, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def url(
    generation_id: Id,
    *,
    lifetime: Annotated[
        float | None,
        typer.Option(metavar="DURATION", parser=seconds, help="How long they work: 90, 10min, 2h, at most 7d."),
    ] = None,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Print fresh URLs of the pictures."""
    from easel.cli import get as command

    lifetime_seconds = None if lifetime is None else round(lifetime)
    command.url(generation_id, target=target, lifetime_seconds=lifetime_seconds, as_json=as_json)

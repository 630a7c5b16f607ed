"""The commands on generations that are there already."""

from typing import Annotated

import typer

from easel.cli.arguments import (
    DEFAULT_TARGET,
    After,
    Before,
    Id,
    Ids,
    Json,
    Labels,
    Models,
    Out,
    Previews,
    Reasons,
    RequestId,
    Show,
    ShowAsOption,
    State,
    Target,
    Yes,
    check_none,
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
    models: Models = None,
    reasons: Reasons = None,
    labels: Labels = None,
    after: After = None,
    before: Before = None,
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
def attempts(generation_id: Id, *, target: Target = DEFAULT_TARGET, as_json: Json = False) -> None:
    """Show the attempts at a generation: which worker it was, how far it came, and why it ended."""
    from easel.cli import attempts as command

    command.attempts(generation_id, target=target, as_json=as_json)


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
    yes: Yes = False,
    target: Target = DEFAULT_TARGET,
    as_json: Json = False,
) -> None:
    """Remove final generations and their pictures; on a terminal, after a question."""
    from easel.cli import ending as command

    command.delete(generation_ids, target=target, immediately=immediately, sure=yes, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def retry(
    generation_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The id of a generation.", show_default=False)
    ] = None,
    *,
    reasons: Reasons = None,
    models: Models = None,
    labels: Labels = None,
    after: After = None,
    before: Before = None,
    yes: Yes = False,
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
    """Draw anew what a final generation asked for; with --failure, all that failed for a reason.

    All that are found are accepted anew, on a terminal after a question, and not waited for. Running it again draws
    nothing twice.
    """
    from easel.cli import retry as command
    from easel.cli.drawing import Wishes
    from easel.cli.listing import make_filters

    if (generation_id is None) == (not reasons):
        raise typer.TyperException("give either an ID or --failure REASON")
    if reasons:
        check_none(out=out, preview=preview, show=show, show_as=show_as, request_id=request_id, goes_with="a single ID")
        filters = make_filters(
            states=(), models=models or (), reasons=reasons, labels=labels or (), after=after, before=before
        )
        command.retry_all(filters, target=target, sure=yes, as_json=as_json)
        return
    check_none(model=models, label=labels, after=after, before=before, yes=yes, goes_with="--failure")
    gallery = open_gallery(show=show, show_as=show_as, as_json=as_json)
    wishes = Wishes(out=out, previews=preview, gallery=gallery)
    command.retry(generation_id or "", target=target, wishes=wishes, request_id=request_id, wait=wait, as_json=as_json)


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

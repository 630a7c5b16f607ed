"""`easel cancel` and `easel delete`: the end of generations."""

from collections.abc import Sequence

from easel.cli.description import describe, print_json
from easel.cli.each import do_to_each, make_sure
from easel.cli.terminal import state_name
from easel.client import Client, GenerationState


def cancel(generation_ids: Sequence[str], *, target: str, as_json: bool) -> None:
    """Run `easel cancel`.

    Raises:
        typer.Exit: some or all failed, and a line was printed for each.
    """

    async def deed(client: Client, generation_id: str) -> None:
        generation = await client.cancel(generation_id)
        if as_json:
            print_json(describe(generation))
        elif generation.state == GenerationState.GENERATION_STATE_CANCELLED:
            print("cancelled", generation_id)
        else:
            print("unchanged", generation_id, f"({state_name(generation)} already)")

    do_to_each(deed, generation_ids, target=target)


def delete(generation_ids: Sequence[str], *, target: str, immediately: bool, sure: bool, as_json: bool) -> None:
    """Run `easel delete`; on a terminal it asks first, unless it is sure.

    Raises:
        typer.Exit: nothing shall be deleted after all; or some or all failed, and a line was printed for each.
    """
    make_sure(_question(len(generation_ids)), sure=sure, otherwise="nothing was deleted")

    async def deed(client: Client, generation_id: str) -> None:
        await client.delete(generation_id, immediately=immediately)
        if as_json:
            print_json({"id": generation_id, "deleted": True})
        else:
            print("deleted", generation_id)

    do_to_each(deed, generation_ids, target=target)


def _question(count: int) -> str:
    what = "the generation and its pictures" if count == 1 else f"{count} generations and their pictures"
    return f"Delete {what}, for good?"

"""Tables of one generation: everything there is to know of it, and where its time and its pictures went."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from easel.cli.terminal import (
    ACCENT,
    MUTED,
    age,
    detail,
    failure_name,
    format_name,
    lasted_seconds,
    phase_name,
    phase_seconds,
    precise,
    printable,
    show_table,
    state_text,
)
from easel.client import Generation, GenerationState, Image, is_final

#: How wide a phase that takes all the time is drawn.
PHASE_BAR_WIDTH = 36

#: Names and what is known by them; those without anything are left out.
Facts = Mapping[str, str | Text | None]


def show_drawn(console: Console, generation: Generation, *, paths: Sequence[Path], wall_seconds: float) -> None:
    """Show where the time went, and where the pictures are: in files, or else behind URLs.

    Args:
        console: Where to show it.
        generation: One that has SUCCEEDED.
        paths: Its files, if they were downloaded.
        wall_seconds: How long it took here, downloads included; less than all for one that was watched late.
    """
    console.print()
    show_table(console, _phase_table(generation))
    console.print()
    facts = _grid({"id": generation.id})
    for row in _picture_rows(generation, paths):
        facts.add_row(*row)
    facts.add_row("took", f"{precise(max(wall_seconds, lasted_seconds(generation)))} in all")
    show_table(console, facts)


def show_generation(console: Console, generation: Generation, *, paths: Sequence[Path] = ()) -> None:
    """Show everything there is to know of a generation."""
    facts = _grid({**_facts(generation), **_settings(generation), **_times(generation)})
    for row in _picture_rows(generation, paths):
        facts.add_row(*row)
    show_table(console, facts)


def _grid(facts: Facts) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style=MUTED, no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if fact:
            table.add_row(name, fact if isinstance(fact, Text) else Text(printable(fact)))
    return table


def _facts(generation: Generation) -> Facts:
    failure, progress = generation.failure, generation.progress
    return {
        "id": generation.id,
        "state": state_text(generation),
        "failure": f"{failure_name(failure)}: {failure.message}" if generation.HasField("failure") else None,
        "progress": f"{phase_name(progress.phase)} {detail(progress)}" if generation.HasField("progress") else None,
        "retry of": generation.retried_from,
    }


def _settings(generation: Generation) -> Facts:
    spec = generation.resolved_spec
    output = [format_name(spec.output)] if spec.output.format else []
    output += [f"quality {spec.output.quality}"] if spec.output.HasField("quality") else []
    return {
        "model": spec.model,
        "prompt": Text(printable(spec.prompt), style="bold"),
        "negative": spec.negative_prompt,
        "size": f"{spec.width}x{spec.height}",
        "steps": str(spec.steps),
        "guidance": f"{spec.guidance_scale:g}",
        "scheduler": spec.scheduler,
        "seed": None if generation.images else str(spec.seed),
        "pictures": str(spec.image_count) if spec.image_count > 1 else None,
        "format": ", ".join(output),
        "priority": str(spec.priority) if spec.priority else None,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(spec.labels.items())),
    }


def _times(generation: Generation) -> Facts:
    phases = phase_seconds(generation) if is_final(generation) else {}
    return {
        "attempts": _attempts(generation) if generation.attempt_count > 1 else None,
        "accepted": f"{_moment(generation.create_time)} ({age(generation.create_time)} ago)",
        "ended": _moment(generation.end_time) if generation.HasField("end_time") else None,
        "took": precise(lasted_seconds(generation)) if is_final(generation) else None,
        "of that": ", ".join(f"{name} {precise(value)}" for name, value in phases.items()),
        "expires": _moment(generation.deadline_time) if _may_expire(generation) else None,
        "removed": _moment(generation.purge_time) if generation.HasField("purge_time") else None,
    }


def _attempts(generation: Generation) -> Text:
    return Text.assemble(str(generation.attempt_count), (f"  easel attempts {generation.id}", MUTED))


def _may_expire(generation: Generation) -> bool:
    return generation.HasField("deadline_time") and not is_final(generation)


def _picture_rows(generation: Generation, paths: Sequence[Path]) -> list[tuple[str, Text]]:
    if generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
        return []
    rows = []
    for number, image in enumerate(generation.images):
        rows.append(("seed", Text(str(image.seed))))
        if paths:
            place = (str(paths[number]), f"bold {ACCENT}")
            rows.append(("picture", Text.assemble(place, (f"  {_size(image)}", MUTED))))
        else:
            link = f"link {image.url}" if image.url else ""
            rows.append(("picture", Text.assemble((_size(image), link), (f"  easel url {generation.id}", MUTED))))
    return rows


def _size(image: Image) -> str:
    return f"{image.width}x{image.height} · {image.size_bytes / 1000:.1f} kB"


def _moment(moment: Timestamp) -> str:
    """Write a moment in the time of this machine."""
    return moment.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _phase_table(generation: Generation) -> Table:
    times = phase_seconds(generation)
    longest = max([*times.values(), 1e-9])
    table = Table.grid(padding=(0, 2))
    table.add_column(style=MUTED)
    table.add_column(justify="right")
    table.add_column()
    for name, value in times.items():
        table.add_row(name, precise(value), Text("━" * round(PHASE_BAR_WIDTH * value / longest), style=ACCENT))
    return table

"""What people see of a generation: a bar that moves with every step, plain lines where there is no terminal."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from easel.client import EaselError, Event, Generation, GenerationState, is_final
from easel.v1 import generation_pb2
from easel.v1.generation_pb2 import Phase
from easel.v1.model_pb2 import Model

ACCENT = "cyan"
MUTED = "grey58"

#: How wide a phase that takes all the time is drawn in the table of phases.
PHASE_BAR_WIDTH = 36

#: Plain lines tell of progress at every such part of the steps, and never more often than this, lest a log fill up.
PLAIN_PARTS = 4
PLAIN_PAUSE_SECONDS = 2.0

#: A prompt longer than this is shortened where it is shown.
LONGEST_PROMPT = 200

#: As much of a connection's trouble as fits beside a bar.
LONGEST_CAUSE = 60

#: Less than this is not worth announcing.
LEAST_ETA_SECONDS = 0.05

_PHASES = {
    Phase.PHASE_UNSPECIFIED: "queued",
    Phase.PHASE_WAITING: "waiting",
    Phase.PHASE_ENCODING: "encoding",
    Phase.PHASE_DENOISING: "denoising",
    Phase.PHASE_DECODING: "decoding",
    Phase.PHASE_UPLOADING: "uploading",
}


class Display(Protocol):
    """Shows a generation while it is drawn; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, event: Event) -> None:
        """Show what happened."""

    def outage(self, error: EaselError | None) -> None:
        """Show that the service is out of reach for the moment; or, with None, that it is back."""

    def downloading(self) -> None:
        """Show that the pictures are on their way."""

    def done(self) -> None:
        """Show that the pictures have arrived."""


def display_on(console: Console, *, models: Sequence[Model]) -> Display:
    """Choose how to show a generation on a console."""
    by_name = {model.name: model for model in models}
    return LiveDisplay(console, by_name) if console.is_terminal else PlainDisplay(console, by_name)


class LiveDisplay:
    """A bar on a terminal."""

    def __init__(self, console: Console, models: Mapping[str, Model]) -> None:
        self._console = console
        self._models = models
        self._steps = 0
        self._progress = Progress(
            SpinnerColumn(style=ACCENT, finished_text="[green]✔[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32, complete_style=ACCENT, finished_style="green", pulse_style=f"dim {ACCENT}"),
            TextColumn("{task.fields[detail]}", style=MUTED, markup=False),
            console=console,
        )
        self._label = _label("connecting")
        self._task = self._progress.add_task(self._label, total=None, detail="")
        self._has_header = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show what happened."""
        if not self._has_header:
            self._has_header = True
            self._console.print(header(event.generation, self._models), end="\n\n")
        if event.progress is not None:
            self._show_progress(event.progress)
        elif event.is_transition:
            self._change_state(event.generation)

    def outage(self, error: EaselError | None) -> None:
        """Show that the service is out of reach for the moment; or, with None, that it is back."""
        label = self._label if error is None else _label("reconnecting", style="yellow")
        why = "" if error is None else cause(error)[:LONGEST_CAUSE]
        self._progress.update(self._task, description=label, detail=why)

    def downloading(self) -> None:
        """Show that the pictures are on their way."""
        self._update(_label("downloading"))

    def done(self) -> None:
        """Show that the pictures have arrived."""
        total = self._steps + 1
        self._update(_label("drawn", style="green"), detail=f"{self._steps} steps", total=total, completed=total)

    def _show_progress(self, progress: generation_pb2.Progress) -> None:
        self._steps = progress.steps
        # One more than there are steps, for what follows them: a bar that is full is done.
        total = progress.steps + 1 if progress.phase >= Phase.PHASE_ENCODING else None
        label = _label(phase_name(progress.phase))
        self._update(label, total=total, completed=progress.step, detail=detail(progress))

    def _change_state(self, generation: Generation) -> None:
        if generation.state == GenerationState.GENERATION_STATE_QUEUED:
            why = waiting_for(generation, self._models)
            self._update(_label("queued"), total=None, completed=0, detail=why)
        elif not is_final(generation):
            self._update(_label("waiting"))
        elif generation.state != GenerationState.GENERATION_STATE_SUCCEEDED:
            self._update(_label(state_name(generation).lower(), style="red"))

    def _update(self, label: str, *, detail: str = "", **bar: Any) -> None:
        self._label = label
        self._progress.update(self._task, description=label, detail=detail, **bar)


class PlainDisplay:
    """Lines, for logs and pipes."""

    def __init__(
        self, console: Console, models: Mapping[str, Model], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._quiet_until = 0.0
        self._models = models
        self._has_header = False
        self._last = ("", -1)
        self._is_away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Print what happened, unless it is much like the line before."""
        if not self._has_header:
            self._has_header = True
            self._print(header(event.generation, self._models).plain)
        if event.progress is not None:
            self._show_progress(event.progress)
        elif event.is_transition and event.generation.state == GenerationState.GENERATION_STATE_QUEUED:
            self._print(f"queued {waiting_for(event.generation, self._models)}")

    def outage(self, error: EaselError | None) -> None:
        """Print that the service is out of reach for the moment; or, with None, that it is back."""
        if (error is not None) != self._is_away:
            self._is_away = error is not None
            self._print("back again" if error is None else f"reconnecting: {cause(error)[:LONGEST_CAUSE]}")

    def downloading(self) -> None:
        """Print that the pictures are on their way."""
        self._print("downloading")

    def done(self) -> None:
        """Print nothing: the table that follows says it."""

    def _show_progress(self, progress: generation_pb2.Progress) -> None:
        name = phase_name(progress.phase)
        part = progress.step * PLAIN_PARTS // max(progress.steps, 1)
        if (name, part) != self._last and self._clock() >= self._quiet_until:
            self._last = (name, part)
            self._quiet_until = self._clock() + PLAIN_PAUSE_SECONDS
            self._print(f"{name} {detail(progress)}")

    def _print(self, line: str) -> None:
        self._console.print(line.strip(), soft_wrap=True, markup=False)


def header(generation: Generation, models: Mapping[str, Model]) -> Text:
    """Say what is drawn and with what: the prompt, the settings, and what the model says of itself."""
    spec = generation.resolved_spec
    settings = [spec.model, f"{spec.width}x{spec.height}", f"{spec.steps} steps", f"guidance {spec.guidance_scale:g}"]
    settings += [spec.scheduler, f"seed {spec.seed}"]
    if spec.image_count > 1:
        settings.append(f"{spec.image_count} pictures")
    lines = [(_shortened(spec.prompt), "bold"), (" · ".join(filter(None, settings)), MUTED)]
    if description := models.get(spec.model, Model()).description:
        lines.append((description, f"italic {MUTED}"))
    return Text("\n").join(Text(text, style=style) for text, style in lines)


def waiting_for(generation: Generation, models: Mapping[str, Model]) -> str:
    """Say what a queued generation waits for, where that is worth a word."""
    if generation.attempt_count:
        return "its worker was lost, another one takes over"
    model = models.get(generation.resolved_spec.model)
    return "no worker serves this model at present" if model is not None and not model.live_workers else ""


def detail(progress: generation_pb2.Progress) -> str:
    """Put the numbers of a progress in words: `12/20 · 0.31 s/step · 3 s left`."""
    parts = []
    if progress.HasField("queue_position"):
        parts.append(f"{progress.queue_position} ahead" if progress.queue_position else "next in line")
    if progress.phase == Phase.PHASE_DENOISING:
        parts.append(f"{progress.step}/{progress.steps}")
        if progress.HasField("step_seconds"):
            parts.append(f"{precise(progress.step_seconds)}/step")
    if progress.HasField("eta") and seconds(progress.eta) >= LEAST_ETA_SECONDS:
        parts.append(f"{precise(seconds(progress.eta))} left")
    return " · ".join(parts)


def state_name(generation: Generation) -> str:
    """Name the state of a generation: `SUCCEEDED`."""
    return GenerationState.Name(generation.state).removeprefix("GENERATION_STATE_")


def phase_name(phase: Phase.ValueType) -> str:
    """Name a phase; a newer service may have phases that this client does not know."""
    return _PHASES.get(phase, "working")


def phase_seconds(generation: Generation) -> dict[str, float]:
    """Return where the time of a final generation went, by name and in order.

    `rest` is what no phase accounts for: attempts that were lost, and the record being kept.
    """
    times = {"queued": _between(generation.create_time, generation.start_time)} if generation.attempt_count else {}
    times |= {field.name: seconds(value) for field, value in generation.phase_times.ListFields()}
    rest = _between(generation.create_time, generation.end_time) - sum(times.values())
    return times | {"rest": round(max(0.0, rest), 6)}


def show_drawn(console: Console, generation: Generation, *, paths: Sequence[Path], wall_seconds: float) -> None:
    """Show where the time went, and where the pictures are."""
    console.print()
    show_table(console, _phase_table(generation))
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style=MUTED)
    facts.add_column(overflow="fold")
    facts.add_row("id", generation.id)
    for image, path in zip(generation.images, paths, strict=True):
        facts.add_row("seed", str(image.seed))
        size = f"{image.width}x{image.height} · {image.size_bytes / 1000:.1f} kB"
        facts.add_row("picture", Text.assemble((str(path), f"bold {ACCENT}"), (f"  {size}", MUTED)))
    facts.add_row("took", f"{precise(wall_seconds)} in all")
    show_table(console, facts)


def show_table(console: Console, table: RenderableType) -> None:
    """Print a table; where no terminal is, without the blanks that fill its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True, markup=False, emoji=False)


def precise(value: float) -> str:
    """Write seconds with as many digits as one cares for: `0.031 s`, `0.31 s`, `3.1 s`, `31 s`, `2 min 5 s`."""
    if value >= 60:  # noqa: PLR2004
        return f"{int(value // 60)} min {int(value % 60)} s"
    for bound, digits in ((0.1, 3), (1, 2), (10, 1)):
        if value < bound:
            return f"{value:.{digits}f} s"
    return f"{value:.0f} s"


def cause(error: EaselError) -> str:
    """Take out of the nested message of a broken connection what is at the bottom of it."""
    return str(error).rsplit(": ", 1)[-1].strip(" []")


def seconds(duration: Duration) -> float:
    """Turn a protobuf duration into seconds."""
    return duration.ToTimedelta().total_seconds()


def _between(start: Timestamp, end: Timestamp) -> float:
    return round((end.ToNanoseconds() - start.ToNanoseconds()) / 1e9, 6)


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= LONGEST_PROMPT else prompt[: LONGEST_PROMPT - 1].rstrip() + "…"


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


def _label(name: str, *, style: str = ACCENT) -> str:
    return f"[{style}]{name:<12}[/]"

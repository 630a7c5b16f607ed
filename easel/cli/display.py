"""How a generation is shown while it is drawn: a bar that moves with every step, plain lines where no terminal is."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.table import Column

from easel.cli.terminal import ACCENT, MUTED, cause, detail, header, phase_name, state_name, waiting_for
from easel.client import EaselError, Event, Generation, GenerationState, Model, Phase, Preview, is_final
from easel.v1 import generation_pb2

BAR_WIDTH = 32
FRAMES_PER_SECOND = 10

#: Plain lines tell of progress at every such part of the steps, and never more often than this, lest a log fill up.
PLAIN_PARTS = 4
PLAIN_PAUSE_SECONDS = 2.0

#: As much of a connection's trouble as fits beside a bar.
LONGEST_CAUSE = 60

#: Turns a preview into what a terminal can show.
DrawPreview = Callable[[Preview], RenderableType]


class Display(Protocol):
    """Shows one generation while it is drawn."""

    def show(self, event: Event) -> None:
        """Show what happened."""

    def outage(self, error: EaselError | None) -> None:
        """Show that the service is out of reach for the moment; or, with None, that it is back."""

    def downloading(self) -> None:
        """Show that the pictures are on their way."""

    def done(self, generation: Generation, paths: Sequence[Path]) -> None:
        """Show that everything has arrived."""

    def failed(self, error: EaselError) -> None:
        """Show that nothing comes of it any more."""


def display_on(
    console: Console, *, models: Sequence[Model], draw_preview: DrawPreview | None = None
) -> "LiveDisplay | PlainDisplay":
    """Choose how to show a generation on a console; previews are shown in place where `draw_preview` can."""
    by_name = {model.name: model for model in models}
    if console.is_terminal:
        return LiveDisplay(console, by_name, draw_preview=draw_preview)
    return PlainDisplay(console, by_name)


def bars_on(console: Console, *first: ProgressColumn, bar_width: int = BAR_WIDTH) -> Progress:
    """Lay out bars, each with a word before it and numbers after it."""
    numbers = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        SpinnerColumn(style=ACCENT, finished_text="[green]✔[/]"),
        *first,
        TextColumn("{task.description}"),
        BarColumn(bar_width=bar_width, complete_style=ACCENT, finished_style="green", pulse_style=f"dim {ACCENT}"),
        TextColumn("{task.fields[detail]}", style=MUTED, markup=False, table_column=numbers),
        console=console,
    )


class Bar:
    """The bar of one generation, among others perhaps."""

    def __init__(self, bars: Progress, models: Mapping[str, Model], *, prompt: str = "") -> None:
        self._bars = bars
        self._models = models
        self._steps = 0
        self._label = _label("connecting")
        self._task = bars.add_task(self._label, total=None, detail="", prompt=prompt)

    def show(self, event: Event) -> None:
        """Show what happened."""
        if event.progress is not None:
            self._show_progress(event.progress)
        elif event.is_transition:
            self._change_state(event.generation)

    def outage(self, error: EaselError | None) -> None:
        """Show that the service is out of reach for the moment; or, with None, that it is back."""
        label = self._label if error is None else _label("reconnecting", style="yellow")
        why = "" if error is None else cause(error)[:LONGEST_CAUSE]
        self._bars.update(self._task, description=label, detail=why)

    def downloading(self) -> None:
        """Show that the pictures are on their way."""
        self._update(_label("downloading"))

    def done(self, generation: Generation, paths: Sequence[Path]) -> None:  # noqa: ARG002  # a Display's signature
        """Show that everything has arrived."""
        total = self._steps + 1
        self._update(_label("drawn", style="green"), detail=f"{self._steps} steps", total=total, completed=total)

    def failed(self, error: EaselError) -> None:  # noqa: ARG002  # a Display's signature
        """Show that nothing comes of it any more; what went wrong is told in a line of its own."""
        self._update(_label("failed", style="red"))

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
        self._bars.update(self._task, description=label, detail=detail, **bar)


class LiveDisplay(Bar):
    """What is drawn, a bar below it, and between them the latest preview: on a terminal."""

    def __init__(
        self, console: Console, models: Mapping[str, Model], *, draw_preview: DrawPreview | None = None
    ) -> None:
        bars = bars_on(console)
        super().__init__(bars, models)
        self._console = console
        self._draw_preview = draw_preview
        self._preview: RenderableType | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=FRAMES_PER_SECOND)
        self._has_header = False

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._preview = None
        self._live.stop()

    def show(self, event: Event) -> None:
        """Show what happened."""
        if not self._has_header:
            self._has_header = True
            self._console.print(header(event.generation, self._models), end="\n\n")
        if event.preview is not None and self._draw_preview is not None:
            self._preview = self._draw_preview(event.preview)
            self._live.refresh()  # the last one may be gone before the next frame
        super().show(event)

    def _render(self) -> RenderableType:
        return self._bars if self._preview is None else Group(self._preview, "", self._bars)


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

    def done(self, generation: Generation, paths: Sequence[Path]) -> None:
        """Print nothing: the table that follows says it."""

    def failed(self, error: EaselError) -> None:
        """Print nothing: what went wrong is told in a line of its own."""

    def _show_progress(self, progress: generation_pb2.Progress) -> None:
        name = phase_name(progress.phase)
        part = progress.step * PLAIN_PARTS // max(progress.steps, 1)
        if (name, part) != self._last and self._clock() >= self._quiet_until:
            self._last = (name, part)
            self._quiet_until = self._clock() + PLAIN_PAUSE_SECONDS
            self._print(f"{name} {detail(progress)}")

    def _print(self, line: str) -> None:
        self._console.print(line.strip(), soft_wrap=True, markup=False)


def _label(name: str, *, style: str = ACCENT) -> str:
    return f"[{style}]{name:<12}[/]"

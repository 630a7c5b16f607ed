"""What people read of a generation: its words and its numbers."""

import errno
import os
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType
from rich.text import Text

from easel.client import (
    Attempt,
    AttemptOutcome,
    EaselError,
    Failure,
    FailureReason,
    Generation,
    GenerationState,
    ImageFormat,
    Model,
    OutputSpec,
    Phase,
    Progress,
)

ACCENT = "cyan"
MUTED = "grey58"

#: A prompt longer than this is shortened where it is shown.
LONGEST_PROMPT = 200

#: Less than this is not worth announcing.
LEAST_ETA_SECONDS = 0.05

#: How wide a table may grow where no terminal limits it.
PLAIN_WIDTH = 160

_PHASES = {
    Phase.PHASE_UNSPECIFIED: "queued",
    Phase.PHASE_WAITING: "waiting",
    Phase.PHASE_ENCODING: "encoding",
    Phase.PHASE_DENOISING: "denoising",
    Phase.PHASE_DECODING: "decoding",
    Phase.PHASE_UPLOADING: "uploading",
}

#: What a newer service may say and this client has no name for.
_UNKNOWN = "UNKNOWN"

#: Of states and of outcomes; what is not here has gone another way.
_STYLES = {"QUEUED": MUTED, "RUNNING": ACCENT, "SUCCEEDED": "green", "FAILED": "red", "LOST": "red"}


def header(generation: Generation, models: Mapping[str, Model]) -> Text:
    """Say what is drawn and with what: the prompt, the settings, and what the model says of itself."""
    spec = generation.resolved_spec
    settings = [spec.model, f"{spec.width}x{spec.height}", f"{spec.steps} steps", f"guidance {spec.guidance_scale:g}"]
    settings += [spec.scheduler, f"seed {spec.seed}"]
    if spec.image_count > 1:
        settings.append(f"{spec.image_count} pictures")
    lines = [(shortened(spec.prompt, LONGEST_PROMPT), "bold"), (" · ".join(filter(None, settings)), MUTED)]
    if description := models.get(spec.model, Model()).description:
        lines.append((description, f"italic {MUTED}"))
    return Text("\n").join(Text(text, style=style) for text, style in lines)


def waiting_for(generation: Generation, models: Mapping[str, Model]) -> str:
    """Say what a queued generation waits for, where that is worth a word."""
    if generation.attempt_count:
        return "its worker was lost, another one takes over"
    model = models.get(generation.resolved_spec.model)
    return "no worker serves this model at present" if model is not None and not model.live_workers else ""


def detail(progress: Progress) -> str:
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
    return _name(GenerationState.DESCRIPTOR, generation.state)


def state_text(generation: Generation) -> Text:
    """Name the state in its colour."""
    name = state_name(generation)
    return Text(name, style=_STYLES.get(name, "yellow"))


def outcome_name(attempt: Attempt) -> str:
    """Name the outcome of an attempt: `LOST`; `RUNNING` while it is under way."""
    if attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_UNSPECIFIED:
        return _UNKNOWN if attempt.HasField("end_time") else "RUNNING"
    return _name(AttemptOutcome.DESCRIPTOR, attempt.outcome)


def outcome_text(attempt: Attempt) -> Text:
    """Name the outcome in its colour."""
    name = outcome_name(attempt)
    return Text(name, style=_STYLES.get(name, "yellow"))


def failure_name(failure: Failure) -> str:
    """Name the reason of a failure: `OUT_OF_MEMORY`."""
    return _name(FailureReason.DESCRIPTOR, failure.reason)


def format_name(output: OutputSpec) -> str:
    """Name a file format: `png`."""
    return _name(ImageFormat.DESCRIPTOR, output.format).lower()


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


class Output(Console):
    """Standard output, whose tables are wide where no terminal limits them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        if not self.is_terminal:
            self.width = PLAIN_WIDTH

    def on_broken_pipe(self) -> NoReturn:
        """Raise what rich has caught: it would end the process, whatever else goes on in it."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


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
    """Take out of the nested message of a broken connection what is at the bottom of it; the service's own is whole."""
    return str(error) if error.reason else str(error).rsplit(": ", 1)[-1].strip(" []")


def seconds(duration: Duration) -> float:
    """Turn a protobuf duration into seconds."""
    return duration.ToTimedelta().total_seconds()


def lasted_seconds(generation: Generation) -> float:
    """Return how long it took from its acceptance to its end, or until now."""
    end = generation.end_time.ToNanoseconds() if generation.HasField("end_time") else time.time_ns()
    return max(0.0, (end - generation.create_time.ToNanoseconds()) / 1e9)


def attempt_seconds(attempt: Attempt) -> float:
    """Return how long an attempt lasted, or lasts until now."""
    end = attempt.end_time.ToNanoseconds() if attempt.HasField("end_time") else time.time_ns()
    return max(0.0, (end - attempt.start_time.ToNanoseconds()) / 1e9)


def age(moment: Timestamp) -> str:
    """Say how long ago a moment was, in its largest unit: `12 s`, `5 min`, `3 h`, `8 d`."""
    passed = max(0.0, time.time() - moment.ToNanoseconds() / 1e9)
    for unit, length_seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if passed >= length_seconds:
            return f"{passed // length_seconds:.0f} {unit}"
    return f"{passed:.0f} s"


def shortened(text: str, most: int) -> str:
    """Put a text into one line of so many characters at most, and show that it was cut."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def printable(text: str) -> str:
    """Take out of a text of somebody else's what would move the cursor, or worse, on a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def _name(kind: EnumDescriptor, value: int) -> str:
    """Name a value without the prefix of its kind; a newer service may have values that are not known here."""
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    found = kind.values_by_number.get(value)
    return _UNKNOWN if found is None else found.name.removeprefix(prefix)


def _between(start: Timestamp, end: Timestamp) -> float:
    return round((end.ToNanoseconds() - start.ToNanoseconds()) / 1e9, 6)

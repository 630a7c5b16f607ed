import io
import itertools
import re
import time
from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from easel.cli import terminal
from easel.cli.display import LiveDisplay, PlainDisplay, display_on
from easel.client import Event, Generation, GenerationSpec, ImageFormat, OutputSpec, Preview, Unavailable
from easel.v1.generation_pb2 import Failure, Phase, PhaseTimes, Progress
from easel.v1.model_pb2 import Model
from tests.unit.easel.scripted import FAILED, ID, QUEUED, RUNNING, SUCCEEDED

SPEC = GenerationSpec(
    model="tiny", prompt="a [bold]castle[/]", width=64, height=32, steps=20, guidance_scale=7.5, seed=0
)


CONTROL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def generation(state: int, *, attempts: int = 0) -> Generation:
    return Generation(id=ID, state=state, attempt_count=attempts, resolved_spec=SPEC)  # type: ignore[arg-type]


def event(state: int, *, attempts: int = 0, progress: Progress | None = None) -> Event:
    return Event(generation=generation(state, attempts=attempts), progress=progress)


def denoising(step: int) -> Progress:
    return Progress(attempt=1, phase=Phase.PHASE_DENOISING, step=step, steps=20, step_seconds=0.31)


class Screen:
    """A terminal whose output is kept."""

    def __init__(self, *, models: tuple[Model, ...] = ()) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, force_terminal=True, width=100, color_system=None)
        self.display = display_on(self.console, models=models)

    def everything(self) -> str:
        """Read all frames, as text."""
        return CONTROL_CODE.sub("", self._file.getvalue())

    def latest(self) -> str:
        """Read the last frame of the bar."""
        return re.split(r"[\r\n]", self.everything().rstrip())[-1]


def shown(*events: Event, models: tuple[Model, ...] = ()) -> Screen:
    screen = Screen(models=models)
    with screen.display as display:
        for each in events:
            display.show(each)
    return screen


def test_the_bar_moves_with_every_step() -> None:
    widths = []
    for step in (0, 5, 6, 20):
        latest = shown(event(QUEUED), event(RUNNING, attempts=1), event(RUNNING, progress=denoising(step))).latest()
        assert "denoising    " in latest
        assert f"{step}/20 · 0.31 s/step" in latest
        widths.append(latest.count("━"))
    assert widths[0] <= widths[1] < widths[3]


def test_the_header_comes_once_and_shows_the_prompt_as_it_is() -> None:
    everything = shown(event(QUEUED), event(RUNNING, attempts=1)).everything()
    assert everything.count("a [bold]castle[/]") == 1
    assert "tiny · 64x32 · 20 steps · guidance 7.5 · seed 0" in everything


def test_what_the_model_says_of_itself_is_shown() -> None:
    assert "Untrained." in shown(event(QUEUED), models=(Model(name="tiny", description="Untrained."),)).everything()


def test_a_queue_without_workers_says_so() -> None:
    assert "no worker serves this model" in shown(event(QUEUED), models=(Model(name="tiny"),)).latest()


def test_a_lost_worker_is_told_of() -> None:
    assert "its worker was lost" in shown(event(QUEUED), event(QUEUED, attempts=1)).latest()


def test_the_place_in_the_queue() -> None:
    waiting = Progress(queue_position=2)
    assert "queued" in (latest := shown(event(QUEUED), event(QUEUED, progress=waiting)).latest())
    assert "2 ahead" in latest


def test_a_failure_is_named() -> None:
    assert "failed" in shown(event(QUEUED), event(FAILED)).latest()


def test_an_outage_shows() -> None:
    screen = Screen()
    with screen.display as display:
        display.show(event(RUNNING, progress=denoising(3)))
        display.outage(Unavailable("failed to connect: Connection refused"))
    assert "reconnecting" in screen.latest()
    assert "Connection refused" in screen.latest()


def test_an_outage_passes() -> None:
    screen = Screen()
    with screen.display as display:
        display.show(event(RUNNING, progress=denoising(3)))
        display.outage(Unavailable("failed to connect: Connection refused"))
        display.outage(None)
    assert "denoising" in screen.latest()
    assert "Connection refused" not in screen.latest()


def test_a_bar_that_is_full_is_done_and_no_other() -> None:
    screen = Screen()
    with screen.display as display:
        display.show(event(RUNNING, progress=denoising(20)))
    assert "✔" not in screen.latest()
    screen = Screen()
    with screen.display as display:
        display.show(event(RUNNING, progress=denoising(20)))
        display.done(generation(SUCCEEDED), [])
    assert screen.latest().startswith("✔ drawn")


def test_plain_lines_of_a_long_drawing_are_few() -> None:
    now = itertools.count(step=10)
    assert plain_steps(clock=lambda: next(now), steps=100) == ["0/100", "25/100", "50/100", "75/100", "100/100"]


def test_plain_lines_of_a_quick_drawing_are_fewer() -> None:
    assert plain_steps(clock=lambda: 1.0, steps=100) == ["0/100"]


def plain_steps(*, clock: Callable[[], float], steps: int) -> list[str]:
    """Return the steps that are printed where no terminal is."""
    file = io.StringIO()
    display = PlainDisplay(Console(file=file), {}, clock=clock)
    for step in range(steps + 1):
        told = Progress(attempt=1, phase=Phase.PHASE_DENOISING, step=step, steps=steps)
        display.show(event(RUNNING, progress=told))
    return re.findall(r"^denoising (\S+)", file.getvalue(), re.MULTILINE)


@pytest.mark.parametrize(("length", "ending"), [(200, "x\n"), (3000, "x…\n")])
def test_a_long_prompt_is_shortened(length: int, ending: str) -> None:
    drawn = Generation(id=ID, resolved_spec=GenerationSpec(prompt="x" * length))
    first = terminal.header(drawn, {}).plain.splitlines(keepends=True)[0]
    assert len(first) == 201
    assert first.endswith(ending)


def test_a_phase_of_a_newer_service_is_no_trouble() -> None:
    assert terminal.phase_name(99) == "working"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0314, "0.031 s"), (0.314, "0.31 s"), (3.14, "3.1 s"), (31.4, "31 s"), (125, "2 min 5 s"), (0.0, "0.000 s")],
)
def test_seconds_have_as_many_digits_as_one_cares_for(seconds: float, text: str) -> None:
    assert terminal.precise(seconds) == text


def test_where_the_time_went_adds_up_to_the_whole() -> None:
    times = PhaseTimes()
    times.waiting.FromMilliseconds(100)
    times.denoising.FromMilliseconds(2000)
    drawn = Generation(state=SUCCEEDED, attempt_count=1, phase_times=times)
    drawn.create_time.FromMilliseconds(10_000)
    drawn.start_time.FromMilliseconds(10_500)
    drawn.end_time.FromMilliseconds(13_000)
    drawn.end_time.nanos += 4_809
    found = terminal.phase_seconds(drawn)
    assert found["rest"] == 0.400005
    assert found == pytest.approx({"queued": 0.5, "waiting": 0.1, "denoising": 2.0, "rest": 0.400005})
    assert sum(found.values()) == pytest.approx(3.000005)


def test_a_generation_that_never_started_has_no_phases() -> None:
    expired = Generation(state=SUCCEEDED)
    expired.create_time.FromMilliseconds(1000)
    expired.end_time.FromMilliseconds(2000)
    assert terminal.phase_seconds(expired) == {"rest": 1.0}


def test_values_of_a_newer_service_are_no_trouble() -> None:
    newer = Generation.FromString(b"\x20\x63")  # state = 99
    assert terminal.state_name(newer) == "UNKNOWN"
    assert terminal.state_text(newer).plain == "UNKNOWN"
    assert terminal.failure_name(Failure.FromString(b"\x08\x63")) == "UNKNOWN"
    assert terminal.format_name(OutputSpec.FromString(b"\x08\x63")) == "unknown"
    assert terminal.state_name(generation(FAILED)) == "FAILED"
    assert terminal.format_name(OutputSpec(format=ImageFormat.IMAGE_FORMAT_PNG)) == "png"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "59 min"), (7300, "2 h"), (86_399, "23 h"), (900_000, "10 d")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    moment = Timestamp()
    moment.FromNanoseconds(time.time_ns() - int(seconds * 1e9))
    assert terminal.age(moment) == text


def test_an_age_is_never_below_zero() -> None:
    moment = Timestamp()
    moment.FromNanoseconds(time.time_ns() + 10**12)
    assert terminal.age(moment) == "0 s"


def test_a_text_in_a_line_has_no_breaks_and_nothing_that_moves_the_cursor() -> None:
    assert terminal.shortened("a\n\tcastle", 60) == "a castle"
    assert terminal.shortened("a\x1b[2Jcastle\u202e", 60) == "a\ufffd[2Jcastle\ufffd"
    assert terminal.shortened("x" * 61, 60) == "x" * 59 + "…"


def test_a_preview_is_drawn_above_the_bar_until_the_end() -> None:
    screen = Screen()
    with LiveDisplay(screen.console, {}, draw_preview=lambda shown: f"preview {shown.step}") as display:
        display.show(event(RUNNING, attempts=1))
        display.show(Event(generation=generation(RUNNING), preview=Preview(step=5)))
        display.show(event(RUNNING, progress=denoising(6)))
        screen.console.print(display._render())
        assert "preview 5" in screen.everything()
    assert "denoising" in screen.latest()
    assert "preview" not in screen.latest()


def test_previews_are_not_drawn_where_nobody_asked_for_them() -> None:
    assert "preview" not in shown(Event(generation=generation(RUNNING), preview=Preview(step=5))).everything()

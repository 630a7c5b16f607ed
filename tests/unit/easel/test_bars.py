import io
import re
from pathlib import Path

from rich.console import Console

from easel.cli.bars import LiveBars, PlainBars, Tally, bars_for
from easel.client import EaselError, Event, Exhausted, Generation
from easel.v1.generation_pb2 import Phase, Progress
from tests.unit.easel.scripted import ID, QUEUED, RUNNING, SUCCEEDED

CONTROL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def terminal(*, width: int = 100, height: int = 20) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return CONTROL_CODE.sub("", console.file.getvalue())


def frame(bars: LiveBars, console: Console) -> list[str]:
    """Draw the bars as they stand, on a terminal like theirs."""
    other = terminal(width=console.width, height=console.height)
    other.print(bars._render())
    return said(other).splitlines()


def denoising(step: int) -> Event:
    progress = Progress(attempt=1, phase=Phase.PHASE_DENOISING, step=step, steps=20, step_seconds=0.31)
    return Event(generation=Generation(id=ID, state=RUNNING), progress=progress)


def test_a_bar_for_each_and_one_for_all() -> None:
    console = terminal()
    with LiveBars(console, {}, total=5) as bars:
        for prompt in ("a castle", "a moat"):
            bars.begin(prompt).show(Event(generation=Generation(id=ID, state=QUEUED)))
        third = bars.begin("a keep")
        third.show(denoising(10))
        first_line, _, third_line, in_all = frame(bars, console)
    assert re.search(r"a castle +queued", first_line)
    assert re.search(r"a keep +denoising +━+.+ 10/20 · 0.31 s/step", third_line)
    assert re.search(r"^in all .* 0/5 drawn · 3 under way · 2 waiting$", in_all.rstrip())


def test_what_is_over_leaves_its_place_for_a_line() -> None:
    console = terminal()
    with LiveBars(console, {}, total=3) as bars:
        first, second = bars.begin("a castle"), bars.begin("a\nmoat")
        first.done(Generation(id=ID, state=SUCCEEDED), [Path("out/castle.png")])
        second.failed(EaselError("no luck"))
        bars.refused("a keep", "too long")
        [in_all] = frame(bars, console)
    assert in_all.rstrip().endswith("1/3 drawn · 2 failed")
    assert re.search(r"^✔ out/castle.png .* a castle$", said(console).replace("\r", "\n"), re.MULTILINE)
    assert "✘ a moat  no luck\n" in said(console).replace("\r", "")
    assert "✘ a keep  too long\n" in said(console).replace("\r", "")


def test_no_more_bars_than_the_terminal_has_room_for() -> None:
    console = terminal(height=8)
    with LiveBars(console, {}, total=40) as bars:
        for number in range(16):
            bars.begin(f"castle {number}")
        lines = frame(bars, console)
    assert len(lines) <= 8
    assert "castle 4" in lines[4]
    assert lines[5].rstrip() == "… and 11 more"
    assert "16 under way · 24 waiting" in lines[6]


def test_long_prompts_and_narrow_terminals_keep_to_one_line_each() -> None:
    console = terminal(width=60)
    with LiveBars(console, {}, total=1) as bars:
        bars.begin("x" * 1000).show(denoising(10))
        lines = frame(bars, console)
    assert len(lines) == 2


def test_a_full_backlog_shows_until_it_is_over() -> None:
    console = terminal()
    with LiveBars(console, {}, total=1) as bars:
        bars.held_up(Exhausted("the backlog is full"))
        assert any("the backlog is full" in line for line in frame(bars, console))
        bars.held_up(None)
        assert not any("the backlog is full" in line for line in frame(bars, console))


def test_an_outage_of_one_shows_beside_it() -> None:
    console = terminal()
    with LiveBars(console, {}, total=1) as bars:
        bar = bars.begin("a castle")
        bar.outage(EaselError("gone"))
        assert "reconnecting" in frame(bars, console)[0]
        bar.outage(None)
        assert "connecting" in frame(bars, console)[0]
        assert "reconnecting" not in frame(bars, console)[0]


def test_where_no_terminal_is_each_has_a_line_when_it_is_over() -> None:
    console = Console(file=io.StringIO(), width=80)
    with bars_for(console, total=2, models=()) as bars:
        assert isinstance(bars, PlainBars)
        first, second = bars.begin("a [bold]castle[/]"), bars.begin("a moat")
        first.show(denoising(3))
        first.downloading()
        first.done(Generation(id=ID), [Path("0.png"), Path("1.png")])
        second.failed(EaselError("no luck"))
    assert said(console) == "1/2 drawn 0.png, 1.png a [bold]castle[/]\n2/2 failed a moat: no luck\n"


def test_a_tally_names_only_what_there_is() -> None:
    assert str(Tally(3)) == "0/3 drawn · 3 waiting"
    assert str(Tally(3, drawn=3)) == "3/3 drawn"
    assert str(Tally(9, drawn=3, failed=1, under_way=2)) == "3/9 drawn · 1 failed · 2 under way · 3 waiting"

"""The engine's thread, with a scripted model: cut at its steps, or called as a whole."""

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import numpy as np
import pytest
from loguru import logger

from inference.engine import batch_loop, pulse
from inference.engine.adapter import Adapter, DeviceLost, InvalidOutput, OutOfMemory
from inference.engine.drawing import ThreadedDrawing
from inference.engine.engine import (
    FINAL_EVENTS,
    Event,
    Failed,
    FailureKind,
    Finished,
    Phase,
    PhaseStarted,
    Pixels,
    Previewed,
    Stepped,
    Stopped,
)
from inference.engine.loops import Loop
from inference.engine.pulse import Pulse
from inference.engine.threaded_engine import ThreadedEngine
from tests.unit.inference.conftest import MOST_ROWS
from tests.unit.inference.scripted_adapter import (
    Gate,
    Script,
    ScriptedAdapter,
    ScriptedWholeAdapter,
    draw_request,
)
from tests.unit.inference.scripted_gateway import eventually

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own

Start: TypeAlias = Callable[[Adapter], Awaitable[ThreadedEngine]]
Make: TypeAlias = Callable[[Script], ScriptedAdapter | ScriptedWholeAdapter]

either_way = pytest.mark.parametrize("make", [ScriptedAdapter, ScriptedWholeAdapter], ids=["by step", "as a whole"])


async def events_of(drawing: ThreadedDrawing) -> list[Event]:
    async with asyncio.timeout(30):
        return [event async for event in drawing]


def steps_of(event: Event) -> tuple[int, int]:
    assert isinstance(event, Stepped)
    return event.step, event.steps


@pytest.mark.parametrize(
    ("make", "phases"),
    [
        (ScriptedAdapter, [Phase.WAITING, Phase.ENCODING, Phase.DENOISING, Phase.DECODING]),
        (ScriptedWholeAdapter, [Phase.WAITING, Phase.DENOISING]),
    ],
)
async def test_events_tell_phases_and_steps_in_order(start_engine: Start, make: Make, phases: list[Phase]) -> None:
    engine = await start_engine(make(lambda _prompt, _step: None))

    *events, last = await events_of(engine.draw(draw_request(steps=3)))

    told = [event.phase if isinstance(event, PhaseStarted) else steps_of(event) for event in events]
    before, after = phases[: phases.index(Phase.DENOISING) + 1], phases[phases.index(Phase.DENOISING) + 1 :]
    assert told == [*before, (1, 3), (2, 3), (3, 3), *after]
    assert all(0 <= event.seconds < 1 for event in events if isinstance(event, Stepped))
    assert isinstance(last, Finished)
    assert list(last.phase_seconds) == phases
    assert last.pictures[0].shape == (64, 64, 3)


@pytest.mark.parametrize(("make", "told"), [(ScriptedAdapter, [3, 6]), (ScriptedWholeAdapter, [1, 2, 3, 4, 5, 6])])
async def test_pictures_of_one_request_count_together_and_have_seeds_of_their_own(
    start_engine: Start, make: Make, told: list[int]
) -> None:
    engine = await start_engine(make(lambda _prompt, _step: None))

    events = await events_of(engine.draw(draw_request(steps=2, image_count=3, seed=7)))

    assert [event.step for event in events if isinstance(event, Stepped)] == told
    assert {event.steps for event in events if isinstance(event, Stepped)} == {6}
    assert isinstance(events[-1], Finished)
    assert [int(picture[0, 0, 0]) for picture in events[-1].pictures] == [7, 8, 9]


@pytest.mark.parametrize("evaluations", [lambda n: 2 * n - 1, lambda n: n + 1])
async def test_steps_are_counted_as_asked_for_however_often_the_model_is_evaluated(
    start_engine: Start, evaluations: Callable[[int], int]
) -> None:
    engine = await start_engine(ScriptedAdapter(evaluations=evaluations))

    events = await events_of(engine.draw(draw_request(steps=20)))

    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(1, 21))


def previews_of(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.image_index, event.step) for event in events if isinstance(event, Previewed)]


async def test_previews_follow_their_steps_but_not_the_last_of_a_picture(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loop, "PREVIEW_INTERVAL_SECONDS", 0)
    engine = await start_engine(ScriptedAdapter())

    events = await events_of(engine.draw(draw_request(steps=6, image_count=2, preview_every_steps=2)))

    assert previews_of(events) == [(0, 4), (1, 4), (0, 8), (1, 8)]
    for event in events:
        if isinstance(event, Previewed):
            assert event.pixels[0, 0, 0] == event.step // 2  # it was made after so many evaluations of its picture


@pytest.mark.parametrize("evaluations", [lambda n: 2 * n - 1, lambda n: n + 1])
async def test_previews_count_steps_and_not_evaluations(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch, evaluations: Callable[[int], int]
) -> None:
    monkeypatch.setattr(batch_loop, "PREVIEW_INTERVAL_SECONDS", 0)
    engine = await start_engine(ScriptedAdapter(evaluations=evaluations))

    events = await events_of(engine.draw(draw_request(steps=10, preview_every_steps=5)))

    assert previews_of(events) == [(0, 5)]


async def test_previews_keep_their_distance(start_engine: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_loop, "PREVIEW_INTERVAL_SECONDS", 60)
    engine = await start_engine(ScriptedAdapter())

    for _ in range(2):  # each request for itself
        events = await events_of(engine.draw(draw_request(steps=100, image_count=2, preview_every_steps=1)))
        assert previews_of(events) == [(0, 2), (1, 2)]


@pytest.mark.parametrize(("every_steps", "asked"), [(0, 0), (7, 0), (3, 1)])
async def test_no_preview_is_made_that_nobody_asked_for(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch, every_steps: int, asked: int
) -> None:
    monkeypatch.setattr(batch_loop, "PREVIEW_INTERVAL_SECONDS", 0)
    made: list[int] = []
    adapter = ScriptedAdapter()
    adapter.previewing = made.append  # it shows nothing, as a model without previews
    engine = await start_engine(adapter)

    events = await events_of(engine.draw(draw_request(steps=4, preview_every_steps=every_steps)))

    assert len(made) == asked
    assert previews_of(events) == []
    assert isinstance(events[-1], Finished)


async def test_a_preview_that_fails_costs_the_other_previews_and_not_the_picture(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loop, "PREVIEW_INTERVAL_SECONDS", 0)
    tried = []

    def fail(done: int) -> Pixels:
        tried.append(done)
        raise OutOfMemory("too little memory")

    adapter = ScriptedAdapter()
    adapter.previewing = fail
    engine = await start_engine(adapter)

    events = await events_of(engine.draw(draw_request(steps=4, preview_every_steps=1)))

    assert tried == [1]
    assert isinstance(events[-1], Finished)


async def test_a_device_lost_over_a_preview_is_lost(start_engine: Start) -> None:
    def lose(_done: int) -> Pixels:
        raise DeviceLost("illegal memory access")

    adapter = ScriptedAdapter()
    adapter.previewing = lose
    engine = await start_engine(adapter)
    engine.draw(draw_request(preview_every_steps=1))

    await asyncio.to_thread(engine._thread.join, 30)

    assert not engine.alive


async def test_one_joins_others_at_their_next_step(start_engine: Start) -> None:
    gate = Gate()
    adapter = ScriptedAdapter(lambda prompt, step: gate() if (prompt, step) == ("first", 2) else None)
    engine = await start_engine(adapter)

    first = engine.draw(draw_request(prompt="first", steps=4))
    await asyncio.to_thread(gate.reached.wait)
    second = engine.draw(draw_request(prompt="second", steps=1))
    gate.open()
    await asyncio.gather(events_of(first), events_of(second))

    assert adapter.evaluated[:2] == [("first", 1), ("first", 2)]
    assert set(adapter.evaluated[2:4]) == {("first", 3), ("second", 1)}
    assert adapter.evaluated[4:] == [("first", 4)]


async def test_what_is_called_as_a_whole_draws_one_at_a_time_in_order(start_engine: Start) -> None:
    adapter = ScriptedWholeAdapter()
    engine = await start_engine(adapter)

    drawings = [engine.draw(draw_request(prompt=name, steps=2)) for name in "abc"]
    await asyncio.gather(*(events_of(drawing) for drawing in drawings))

    assert adapter.evaluated == [(name, step) for name in "abc" for step in (1, 2)]


@either_way
async def test_nothing_is_drawn_after_the_step_in_hand(start_engine: Start, make: Make) -> None:
    gate = Gate()
    adapter = make(lambda _prompt, step: gate() if step == 3 else None)
    engine = await start_engine(adapter)
    drawing = engine.draw(draw_request(steps=100))
    await asyncio.to_thread(gate.reached.wait)

    drawing.cancel()
    gate.open()

    assert isinstance((await events_of(drawing))[-1], Stopped)
    assert adapter.evaluated == [("a castle", 1), ("a castle", 2), ("a castle", 3)]


@either_way
async def test_a_waiting_request_that_is_cancelled_is_never_started(start_engine: Start, make: Make) -> None:
    gate = Gate()
    adapter = make(lambda prompt, _step: gate() if prompt == "first" else None)
    engine = await start_engine(adapter)
    first = engine.draw(draw_request(prompt="first"))
    await asyncio.to_thread(gate.reached.wait)
    second, third = (engine.draw(draw_request(prompt=name)) for name in ("second", "third"))

    second.cancel()
    gate.open()

    assert isinstance((await events_of(second))[-1], Stopped)
    assert isinstance((await events_of(third))[-1], Finished)
    assert isinstance((await events_of(first))[-1], Finished)
    assert "second" not in {prompt for prompt, _ in adapter.evaluated}


@either_way
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OutOfMemory("too little memory"), FailureKind.OUT_OF_MEMORY, "too little memory"),
        (MemoryError(), FailureKind.OUT_OF_MEMORY, "the device ran out of memory"),
        (InvalidOutput("not a number"), FailureKind.INVALID_OUTPUT, "not a number"),
        (ValueError("bad shape\nand a long story"), FailureKind.MODEL_ERROR, "ValueError: bad shape"),
    ],
)
async def test_an_error_fails_its_own_request_alone(
    start_engine: Start, make: Make, error: Exception, kind: FailureKind, message: str
) -> None:
    def fail_one(prompt: str, step: int) -> None:
        if (prompt, step) == ("bad", 2):
            raise error

    engine = await start_engine(make(fail_one))

    bad, good = engine.draw(draw_request(prompt="bad")), engine.draw(draw_request(prompt="good"))

    assert (await events_of(bad))[-1] == Failed(kind=kind, message=message)
    assert isinstance((await events_of(good))[-1], Finished)
    assert engine.alive


@either_way
async def test_what_a_model_says_of_a_prompt_is_for_the_client_and_not_for_the_log(
    start_engine: Start, make: Make
) -> None:
    def complain(prompt: str, _step: int) -> None:
        raise ValueError(f"what is {prompt}?")

    engine = await start_engine(make(complain))

    *_, last = await events_of(engine.draw(draw_request(prompt="my secret")))

    assert last == Failed(kind=FailureKind.MODEL_ERROR, message="ValueError: what is my secret?")
    assert isinstance(last, Failed)
    assert last.error is not None
    told = "".join(traceback.format_exception(last.error))
    assert "in complain" in told
    assert "my secret" not in told


@either_way
async def test_a_lost_device_ends_the_engine_without_blaming_the_request(start_engine: Start, make: Make) -> None:
    def lose(_prompt: str, _step: int) -> None:
        raise DeviceLost("illegal memory access")

    engine = await start_engine(make(lose))
    drawing = engine.draw(draw_request())

    await asyncio.to_thread(engine._thread.join, 30)

    assert not engine.alive
    received = [drawing._events.get_nowait() for _ in range(drawing._events.qsize())]
    assert all(isinstance(event, PhaseStarted) for event in received)


@either_way
async def test_a_wedged_device_shows(start_engine: Start, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "STEP_LIMIT_FLOOR_SECONDS", 0.05)
    gate = Gate()
    engine = await start_engine(make(lambda _prompt, step: gate() if step == 2 else None))
    drawing = engine.draw(draw_request())
    await asyncio.to_thread(gate.reached.wait)

    await eventually(lambda: not engine.alive)
    gate.open()

    assert isinstance((await events_of(drawing))[-1], Finished)
    assert engine.alive


@pytest.mark.parametrize("method", ["encode", "begin", "advance", "wait", "decode"])
async def test_a_device_lost_anywhere_is_lost(
    start_engine: Start, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_given: object, **_named: object) -> None:
        raise DeviceLost("illegal memory access")

    engine = await start_engine(adapter := ScriptedAdapter())
    monkeypatch.setattr(adapter, method, lose)
    drawing = engine.draw(draw_request())

    await asyncio.to_thread(engine._thread.join, 30)

    assert not engine.alive
    received = [drawing._events.get_nowait() for _ in range(drawing._events.qsize())]
    assert not any(isinstance(event, FINAL_EVENTS) for event in received)


async def test_a_defect_ends_the_engine_with_a_line_that_tells_no_prompt(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = draw_request(prompt="my secret")

    def fail() -> None:
        raise ZeroDivisionError(request.prompt)

    log: list[str] = []
    handler = logger.add(log.append, level="TRACE", backtrace=False, diagnose=False)
    engine = await start_engine(adapter := ScriptedAdapter())
    monkeypatch.setattr(adapter, "wait", fail)
    engine.draw(request)

    await asyncio.to_thread(engine._thread.join, 30)

    logger.remove(handler)
    assert not engine.alive
    assert "a defect ended the engine" in "".join(log)
    assert "my secret" not in "".join(log)


async def test_what_fails_at_loading_reaches_the_one_who_starts() -> None:
    def load(_pulse: Pulse) -> Loop:
        raise LookupError("no such model")

    engine = ThreadedEngine(load)

    with pytest.raises(LookupError, match="no such model"):
        await engine.start()
    assert await engine.stop()


async def test_the_device_has_a_thread_of_its_own(start_engine: Start) -> None:
    threads = set()
    adapter = ScriptedAdapter(lambda _prompt, _step: threads.add(threading.current_thread().name))
    adapter.previewing = lambda _done: threads.add(threading.current_thread().name)
    engine = await start_engine(adapter)

    await events_of(engine.draw(draw_request()))
    await events_of(engine.draw(draw_request(preview_every_steps=1)))

    assert threads == {"engine"}


@either_way
async def test_stopping_ends_what_is_in_hand_and_what_waits(start_engine: Start, make: Make) -> None:
    gate = Gate()
    engine = await start_engine(make(lambda _prompt, step: gate() if step == 2 else None))
    in_hand = engine.draw(draw_request(steps=1000))
    await asyncio.to_thread(gate.reached.wait)
    waiting = engine.draw(draw_request(steps=1000))

    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)  # it cancels before it first waits
    gate.open()

    assert await stopping
    assert isinstance((await events_of(in_hand))[-1], Stopped)
    assert isinstance((await events_of(waiting))[-1], Stopped)
    assert not engine.alive


async def test_slots_follow_what_comes(start_engine: Start) -> None:
    """A batch of 16 rows takes 8 requests for one picture with guidance, or 4 for two."""
    engine = await start_engine(ScriptedAdapter())
    changed = asyncio.Event()
    engine.on_slots_changed = changed.set
    assert engine.slots == MOST_ROWS // 2

    await asyncio.gather(*(events_of(engine.draw(draw_request(image_count=2))) for _ in range(20)))
    await eventually(lambda: engine.slots == MOST_ROWS // 4)

    assert changed.is_set()


async def test_what_is_called_as_a_whole_has_one_slot(start_engine: Start) -> None:
    engine = await start_engine(ScriptedWholeAdapter())

    await asyncio.gather(*(events_of(engine.draw(draw_request())) for _ in range(3)))

    assert engine.slots == 1


async def test_the_real_model_draws_each_picture_as_if_it_were_alone(
    start_engine: Start, postcard_adapter: Adapter
) -> None:
    engine = await start_engine(postcard_adapter)
    request = draw_request(scheduler="euler_a", image_count=3, seed=40)

    together = (await events_of(engine.draw(request)))[-1]
    alone = [
        (await events_of(engine.draw(draw_request(scheduler="euler_a", seed=40 + index))))[-1] for index in range(3)
    ]

    assert isinstance(together, Finished)
    for picture, single in zip(together.pictures, alone, strict=True):
        assert isinstance(single, Finished)
        assert np.abs(picture.astype(int) - single.pictures[0]).max() <= 1


def test_a_pulse_is_steady_at_rest_and_within_its_word() -> None:
    now = 0.0
    pulse = Pulse(clock=lambda: now)
    assert pulse.steady

    pulse.expect(within_seconds=5)
    now = 4.9
    assert pulse.steady
    now = 5.1
    assert not pulse.steady

    pulse.rest()
    assert pulse.steady

"""The batching loop on a virtual clock: whatever comes, nobody starves, nothing is exceeded, everyone gets an end."""

import random
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.adapter import InvalidOutput, OutOfMemory, Traits
from inference.engine.batch_loop import DECODE_PATIENCE_SECONDS, BatchLoop
from inference.engine.cost_model import LONGEST_STEP_SECONDS, CostModel
from inference.engine.engine import (
    FINAL_EVENTS,
    DrawRequest,
    Event,
    Failed,
    FailureKind,
    Finished,
    Phase,
    PhaseStarted,
    Pixels,
    Stepped,
    Stopped,
)
from inference.engine.observer import Work
from inference.engine.pulse import Pulse
from inference.progress import Estimate, SmoothedMean
from tests.unit.inference.recording_observer import RecordingObserver
from tests.unit.inference.scripted_adapter import TRAITS, draw_request

MOST_ROWS = 16
#: A step takes so long, and each row of it so much longer, for 64 x 64 pixels.
STEP_SECONDS, ROW_SECONDS = 0.01, 0.004
DECODE_SECONDS = 0.02


class Clock:
    """A time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class State:
    """A picture as a number, which each step changes in a way that depends on all before."""

    request: DrawRequest
    value: int

    @property
    def key(self) -> Hashable:
        return self.request.width, self.request.height

    @property
    def rows(self) -> int:
        return 2 if self.request.guidance_scale > 1 else 1

    @property
    def evaluations(self) -> int:
        # Heun's method evaluates the model twice a step, but for the last.
        return 2 * self.request.steps - 1 if self.request.scheduler == "heun" else self.request.steps


class FakeAdapter:
    """Takes virtual time, and fails on what it is told to."""

    def __init__(self, clock: Clock, *, memory_rows: int = MOST_ROWS) -> None:
        self.batches: list[tuple[Hashable, int, int]] = []
        self.on_evaluate: Callable[[Hashable, int, Sequence[State]], None] = lambda *_: None
        self._clock = clock
        self._memory_rows = memory_rows

    @property
    def traits(self) -> Traits:
        return TRAITS

    def warm_up(self) -> None:
        return None

    def tune(self) -> None:
        return None

    def encode(self, request: DrawRequest) -> str:
        if request.prompt == "no words":
            raise ValueError("what a prompt")
        return request.prompt

    def begin(self, request: DrawRequest, conditioning: str, *, seed: int) -> State:
        return State(request, value=seed)

    def evaluate(self, states: Sequence[State]) -> Sequence[int]:
        rows = sum(state.rows for state in states)
        area = states[0].request.width * states[0].request.height / 64**2
        self._clock.now += STEP_SECONDS + rows * ROW_SECONDS * area
        self.on_evaluate(states[0].key, rows, states)
        self.batches.append((states[0].key, rows, len(states)))
        if rows > self._memory_rows:
            raise OutOfMemory("too many")
        if any(state.request.prompt == "poison" for state in states):
            raise RuntimeError("poisoned")
        return [hash((state.value, state.request.prompt)) for state in states]

    def advance(self, state: State, prediction: int) -> None:
        if state.request.prompt == "no scheduler":
            raise ZeroDivisionError
        state.value = hash((state.value, prediction))

    def wait(self) -> None:
        return None

    def preview(self, state: State) -> Pixels:
        return np.zeros((8, 8, 3), dtype=np.uint8)

    def decode(self, states: Sequence[State]) -> Sequence[Pixels]:
        self._clock.now += DECODE_SECONDS * len(states)
        if any(state.request.prompt == "not a number" for state in states):
            raise InvalidOutput("not a number")
        return [np.array([[[state.value & 255] * 3]], dtype=np.uint8) for state in states]


@dataclass(eq=False)
class Recorded:
    """A drawing that remembers what it is told."""

    request: DrawRequest
    clock: Clock
    taken_at: float
    cancelled: bool = False
    #: Whether it takes up a slot: until its last step is done.
    in_hand: bool = False
    events: list[Event] = field(default_factory=list)
    #: When each of them was told.
    times: list[float] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        assert not self.events or not isinstance(self.events[-1], FINAL_EVENTS)
        self.events.append(event)
        self.times.append(self.clock.now)
        if isinstance(event, FINAL_EVENTS) or event == PhaseStarted(phase=Phase.DECODING):
            self.in_hand = False

    @property
    def ended_at(self) -> float:
        return self.times[-1]

    @property
    def end(self) -> Event:
        return self.events[-1]


@dataclass(frozen=True, eq=False)
class Arrival:
    """A request, when it comes, and when its client loses patience."""

    request: DrawRequest
    at: float
    patience: float = float("inf")


class World:
    """An engine under arrivals."""

    def __init__(self, *, memory_rows: int = MOST_ROWS) -> None:
        self.clock = Clock()
        #: How many requests take up slots.
        self.in_hand = 0
        self.adapter = FakeAdapter(self.clock, memory_rows=memory_rows)
        self.costs = CostModel(most_rows=MOST_ROWS)
        self.observer = RecordingObserver()
        self.loop = BatchLoop(
            self.adapter, self.costs, Pulse(clock=self.clock), observer=self.observer, clock=self.clock
        )
        self.loop.warm_up()
        self.adapter.batches.clear()
        self.clock.now = 0.0

    def play(self, arrivals: Sequence[Arrival], *, claims: bool = False) -> list[Recorded]:
        """Let requests come, and go on until all have ended; with claims, they wait until there is room for them."""
        coming = sorted(arrivals, key=lambda arrival: arrival.at)
        drawings = {arrival: Recorded(arrival.request, self.clock, taken_at=arrival.at) for arrival in arrivals}
        while coming or not self.loop.is_idle:
            if self.loop.is_idle and coming[0].at > self.clock.now:
                self.clock.now = coming[0].at
            while coming and coming[0].at <= self.clock.now and (not claims or self.has_room(drawings)):
                drawing = drawings[coming.pop(0)]
                drawing.in_hand = True
                drawing.taken_at = self.clock.now
                self.loop.take(drawing)
            for arrival, drawing in drawings.items():
                drawing.cancelled = self.clock.now > arrival.at + arrival.patience
            before = self.clock.now, len(self.adapter.batches), self.loop.is_idle
            self.loop.tick()
            assert (self.clock.now, len(self.adapter.batches), self.loop.is_idle) != before or coming
        return [drawings[arrival] for arrival in arrivals]

    def has_room(self, drawings: Mapping[Arrival, Recorded]) -> bool:
        """Say what a worker would: whether there is a free slot."""
        self.in_hand = sum(drawing.in_hand for drawing in drawings.values())
        return self.in_hand < self.loop.slots


def seconds_alone(request: DrawRequest) -> float:
    area = request.width * request.height / 64**2
    state = State(request, 0)
    steps = request.image_count * state.evaluations * (STEP_SECONDS + state.rows * ROW_SECONDS * area)
    return steps + request.image_count * DECODE_SECONDS


PROMPTS = st.sampled_from(["a castle"] * 6 + ["poison", "no words", "no scheduler", "not a number"])
REQUESTS = st.builds(
    draw_request,
    prompt=PROMPTS,
    steps=st.integers(1, 12),
    guidance_scale=st.sampled_from([0.0, 5.0]),
    width=st.sampled_from([64, 64, 128]),
    image_count=st.integers(1, 3),
    seed=st.integers(0, 1000),
    scheduler=st.sampled_from(["ddim", "heun"]),
    preview_every_steps=st.integers(0, 3),
    alone=st.sampled_from([False] * 5 + [True]),
)
ARRIVALS = st.lists(
    st.builds(
        Arrival, request=REQUESTS, at=st.floats(0, 2), patience=st.sampled_from([float("inf")] * 3 + [0.05, 0.3])
    ),
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(arrivals=ARRIVALS, memory_rows=st.integers(2, MOST_ROWS))
def test_everyone_gets_one_end_and_comes_out_as_if_alone(arrivals: list[Arrival], memory_rows: int) -> None:
    together = World(memory_rows=memory_rows).play(arrivals)

    for arrival, drawing in zip(arrivals, together, strict=True):
        assert sum(isinstance(event, FINAL_EVENTS) for event in drawing.events) == 1
        if isinstance(drawing.end, Stopped):
            assert drawing.cancelled
            continue
        (alone,) = World().play([replace(arrival, at=0.0, patience=float("inf"))])
        assert without_times(drawing.end) == without_times(alone.end)
        if isinstance(drawing.end, Finished):
            assert steps_of(drawing)[-1] == steps_of(alone)[-1]


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, memory_rows=st.integers(2, MOST_ROWS))
def test_a_batch_is_of_one_shape_and_no_larger_than_pays(arrivals: list[Arrival], memory_rows: int) -> None:
    world = World(memory_rows=memory_rows)
    largest = dict[Hashable, int]()
    #: Of the batch in hand: whatever follows in the same tick are halves of it.
    whole_rows = list[int]()
    # The loop would take a failed assertion for a failure of the model.
    wrong = list[str]()

    def watch(key: Hashable, rows: int, states: Sequence[State]) -> None:
        right = {
            "of one shape": {state.key for state in states} == {key},
            "alone": len(states) == 1 or not any(state.request.alone for state in states),
        }
        if whole_rows:
            right["a half"] = rows < whole_rows[0]
        else:
            whole_rows.append(rows)
            right["as large as pays"] = rows <= max(world.costs.cap(key), states[0].rows)
            if rows > memory_rows:
                # Out of memory once, and never again with so many.
                right["smaller than what did not fit"] = rows < largest.get(key, MOST_ROWS + 1)
                largest[key] = rows
        wrong.extend(name for name, is_so in right.items() if not is_so)

    def tick() -> None:
        whole_rows.clear()
        whole_tick()

    whole_tick = world.loop.tick
    world.loop.tick = tick  # type: ignore[method-assign]
    world.adapter.on_evaluate = watch
    world.play(arrivals)
    assert wrong == []


def test_what_it_does_is_observed() -> None:
    requests = [draw_request(guidance_scale=scale) for scale in (7.5, 1.0, 7.5)]
    world = World()

    world.play([Arrival(request, 0.0) for request in requests])

    assert [rows for rows, _ in world.observer.batches] == [rows for _, rows, _ in world.adapter.batches]
    key = (requests[0].width, requests[0].height)
    assert world.observer.batches[-1][1] == world.costs.cap(key)
    assert len(world.observer.steps) == len(world.observer.batches)
    assert sum(world.observer.steps) == pytest.approx(world.observer.seconds[Work.DENOISING])
    assert world.observer.seconds[Work.DECODING] == pytest.approx(len(requests) * DECODE_SECONDS)
    assert sum(world.observer.seconds.values()) == pytest.approx(world.clock.now)
    assert world.observer.times_out_of_memory == 0


def test_memory_that_did_not_suffice_is_observed() -> None:
    world = World()
    world.adapter._memory_rows = 2

    world.play([Arrival(draw_request(guidance_scale=7.5), 0.0) for _ in range(2)])

    assert world.observer.times_out_of_memory > 0


def test_all_steps_are_told_in_order() -> None:
    request = draw_request(steps=7, image_count=2)
    first, second = World().play([Arrival(request, 0.0), Arrival(replace(request, steps=5), 0.05)])

    assert [step for step, _ in steps_of(first)][-1] == 14
    assert [step for step, _ in steps_of(second)][-1] == 10
    for drawing in (first, second):
        assert steps_of(drawing) == sorted(steps_of(drawing))
        times = [event.seconds for event in drawing.events if isinstance(event, Stepped)]
        assert all(seconds > 0 for seconds in times)


def test_one_joins_at_the_next_step_of_the_others() -> None:
    world = World()
    long, short = world.play([Arrival(draw_request(steps=50), 0.0), Arrival(draw_request(steps=4), 0.3)])

    assert short.ended_at < long.ended_at
    assert (short.ended_at - 0.3) < 3 * seconds_alone(short.request)


def test_rows_of_many_requests_go_together() -> None:
    world = World()
    world.play([Arrival(draw_request(steps=20, seed=seed), 0.0) for seed in range(12)])

    sizes = [rows for _, rows, _ in world.adapter.batches]
    assert sizes[0] == MOST_ROWS


def test_a_large_picture_is_not_starved_by_small_ones() -> None:
    """Small ones come for ever, half again as many as can be drawn one by one, and a large one once."""
    small = draw_request(steps=10)
    gap = seconds_alone(small) / 1.5
    arrivals = [Arrival(replace(small, seed=number), number * gap) for number in range(400)]
    large = Arrival(draw_request(steps=20, width=256, height=256), 10 * gap)

    *others, drawn = World().play([*arrivals, large])

    assert drawn.ended_at - large.at < 8 * seconds_alone(large.request)
    waits = sorted(one.ended_at - arrival.at for one, arrival in zip(others, arrivals, strict=True))
    assert waits[-1] < seconds_alone(large.request) + 3 * seconds_alone(small)


def test_shapes_share_the_device_by_their_pictures() -> None:
    world = World()
    arrivals = [
        *(Arrival(draw_request(steps=40, seed=seed), 0.0) for seed in range(6)),
        *(Arrival(draw_request(steps=40, seed=seed, width=128), 0.0) for seed in range(2)),
    ]
    drawings = world.play(arrivals)

    wide = [drawing.ended_at for drawing in drawings[6:]]
    narrow = [drawing.ended_at for drawing in drawings[:6]]
    assert max(narrow) < min(wide)
    assert max(wide) < sum(seconds_alone(arrival.request) for arrival in arrivals)


def test_what_is_said_to_remain_is_what_then_remains() -> None:
    """While requests of many lengths and two sizes come and go, faster than they could be drawn one by one."""
    chosen = random.Random(3)
    requests = [
        draw_request(
            steps=chosen.choice([4, 10, 20, 50]),
            guidance_scale=chosen.choice([1.0, 7.5]),
            width=chosen.choice([64, 64, 128]),
            scheduler=chosen.choice(["ddim", "heun"]),
            seed=seed,
        )
        for seed in range(300)
    ]
    gap = statistics.mean(seconds_alone(request) for request in requests) / 1.2
    arrivals = [Arrival(request, at=number * gap) for number, request in enumerate(requests)]

    drawings = World().play(arrivals, claims=True)

    picture_seconds = SmoothedMean()
    errors = []
    for drawing in drawings:
        estimate = Estimate(pictures=1, picture_seconds=picture_seconds)
        for time, event in zip(drawing.times, drawing.events, strict=True):
            if isinstance(event, Stepped):
                said, remained = estimate.after(event), drawing.ended_at - time
                errors.append(abs(said - remained) / remained)
        assert isinstance(drawing.end, Finished)
        picture_seconds.add(drawing.end.phase_seconds[Phase.DECODING])
    errors.sort()
    assert errors[len(errors) // 2] < 0.25
    assert errors[len(errors) * 9 // 10] < 0.75


def test_who_is_cancelled_leaves_at_the_next_step() -> None:
    world = World()
    staying, leaving = world.play([Arrival(draw_request(steps=30), 0.0), Arrival(draw_request(steps=30), 0.0, 0.2)])

    assert isinstance(leaving.end, Stopped)
    assert leaving.ended_at <= 0.2 + LONGEST_STEP_SECONDS
    assert isinstance(staying.end, Finished)


def test_a_poisoned_request_fails_alone() -> None:
    requests = [draw_request(seed=seed, prompt="poison" if seed == 3 else "a castle") for seed in range(6)]
    drawings = World().play([Arrival(request, 0.0) for request in requests])

    failed = [drawing for drawing in drawings if isinstance(drawing.end, Failed)]
    assert [drawing.request.seed for drawing in failed] == [3]
    assert isinstance(failed[0].end, Failed)
    assert failed[0].end.kind is FailureKind.MODEL_ERROR
    assert failed[0].end.message == "RuntimeError: poisoned"


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("no words", FailureKind.MODEL_ERROR),
        ("no scheduler", FailureKind.MODEL_ERROR),
        ("not a number", FailureKind.INVALID_OUTPUT),
    ],
)
def test_failures_of_one_request_are_its_own(prompt: str, kind: FailureKind) -> None:
    well, ill = World().play([Arrival(draw_request(), 0.0), Arrival(draw_request(prompt=prompt), 0.0)])

    assert isinstance(well.end, Finished)
    assert isinstance(ill.end, Failed)
    assert ill.end.kind is kind


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    widths=st.lists(st.sampled_from([64, 96, 128]), min_size=1, max_size=3),
)
def test_no_more_is_claimed_than_fills_a_few_batches(steps: list[int], widths: list[int]) -> None:
    """Whatever comes, all at once: what is not claimed may be drawn by others."""
    world = World()
    arrivals = [
        Arrival(draw_request(steps=count, width=widths[place % len(widths)], seed=place), 0.0)
        for place, count in enumerate(steps)
    ]
    held = list[int]()
    tick = world.loop.tick

    def tick_and_count() -> None:
        held.append(world.in_hand)
        tick()

    world.loop.tick = tick_and_count  # type: ignore[method-assign]
    world.play(arrivals, claims=True)

    # Two batches of two rows each, and in each shape a batch that leaves.
    assert max(held) <= (2 + len(set(widths))) * MOST_ROWS // 2


def test_what_is_done_is_decoded_soon_however_much_ends_at_once() -> None:
    """As with models of few steps: more pictures end with each tick than are decoded together."""
    requests = [draw_request(steps=4, seed=seed, guidance_scale=0.0) for seed in range(200)]
    world = World()
    gap = seconds_alone(requests[0]) / 2

    drawings = world.play([Arrival(request, at=seed * gap) for seed, request in enumerate(requests)], claims=True)

    waits = [drawing.end.phase_seconds[Phase.DECODING] for drawing in drawings if isinstance(drawing.end, Finished)]
    assert len(waits) == len(requests)
    assert max(waits) < DECODE_PATIENCE_SECONDS + 2 * MOST_ROWS * DECODE_SECONDS


def test_a_decoder_without_memory_for_many_decodes_fewer_from_then_on() -> None:
    world = World()
    groups = list[int]()
    decode = world.adapter.decode

    def decode_at_most_two(states: Sequence[State]) -> Sequence[Pixels]:
        groups.append(len(states))
        if len(states) > 2:
            raise OutOfMemory("too many")
        return decode(states)

    world.adapter.decode = decode_at_most_two  # type: ignore[method-assign]
    drawings = world.play([Arrival(draw_request(seed=seed), 0.0) for seed in range(8)])

    assert all(isinstance(drawing.end, Finished) for drawing in drawings)
    assert groups == [4, 1, 1, 1, 1, 2, 2]


def test_what_has_no_room_even_alone_fails() -> None:
    (drawing,) = World(memory_rows=1).play([Arrival(draw_request(), 0.0)])

    assert isinstance(drawing.end, Failed)
    assert drawing.end.kind is FailureKind.OUT_OF_MEMORY


def without_times(event: Event) -> object:
    return [picture.tolist() for picture in event.pictures] if isinstance(event, Finished) else event


def steps_of(drawing: Recorded) -> list[tuple[int, int]]:
    """What a client is told last of each number of steps."""
    return [(event.step, event.steps) for event in drawing.events if isinstance(event, Stepped)]

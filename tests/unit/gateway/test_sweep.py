"""When the sweep judges, and when it holds back."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import nats.js.errors
import pytest

from easel.bus import BusUnavailable
from gateway.bucket import StorageUnavailable
from gateway.errors import DatabaseUnavailable
from gateway.metrics import Metrics
from gateway.record.attempts import RetryPolicy
from gateway.sweep import HINT_PATIENCE, Sweep

LEASE = timedelta(seconds=10)
ROUND_SECONDS = 1.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """PostgreSQL, NATS and the clock as a sweep sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> None:
        self.now = 1000.0
        self.connected_since = 0.0
        self.last_sequence = 0
        self.ack_floor = 0
        self.pending = 0
        self.stream_created = EPOCH
        self.jetstream = Mock()
        self.jetstream.stream_info = AsyncMock(side_effect=self._stream_info)
        self.jetstream.consumer_info = AsyncMock(side_effect=self._consumer_info)
        self.attempts = AsyncMock()
        self.queue = AsyncMock()
        self.attempts.get_time.side_effect = self.database_time
        self.attempts.get_overdue.return_value = []
        self.attempts.requeue_lost.return_value = []
        self.attempts.expire.return_value = []
        self.queue.get_dispatched.side_effect = self._get_dispatched
        #: The hints that should be on the bus, by model, and how old each is.
        self.dispatched: dict[str, dict[str, timedelta]] = {}
        self.queue.unmark_dispatched.return_value = 0
        self.recall = AsyncMock()
        self.hints: dict[str, int] = {}
        self.sweep = Sweep(
            self,  # type: ignore[arg-type]
            self.attempts,
            self.queue,
            AsyncMock(),
            recall=self.recall,
            announcements=AsyncMock(),
            lease=LEASE,
            policy=RetryPolicy(max_lost_attempts=5, backoff=timedelta(0)),
            metrics=metrics,
        )
        monkeypatch.setattr("gateway.sweep.time.monotonic", lambda: self.now)
        self.sweep._last_round = self.now

    @property
    def connected_seconds(self) -> float:
        return self.now - self.connected_since

    async def database_time(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    async def round(self, *, after_seconds: float = ROUND_SECONDS) -> None:
        self.now += after_seconds
        await self.sweep.sweep()

    async def rounds(self, seconds: float) -> None:
        for _ in range(int(seconds / ROUND_SECONDS)):
            await self.round()

    async def _get_dispatched(self, *, older_than: timedelta) -> dict[str, dict[str, datetime]]:
        now = await self.database_time()
        old = {
            model: {id_: now - age for id_, age in ages.items() if age > older_than}
            for model, ages in self.dispatched.items()
        }
        return {model: marked for model, marked in old.items() if marked}

    @property
    def judged(self) -> list[datetime]:
        """The times before which something was judged as overdue."""
        return [call.kwargs["overdue_before"] for call in self.attempts.requeue_lost.await_args_list]

    async def _stream_info(self, name: str, subjects_filter: str | None = None) -> Any:
        state = SimpleNamespace(last_seq=self.last_sequence, subjects=self.hints)
        return SimpleNamespace(state=state, created=self.stream_created)

    async def _consumer_info(self, stream: str, consumer: str) -> Any:
        return SimpleNamespace(
            ack_floor=SimpleNamespace(stream_seq=self.ack_floor), num_pending=self.pending, num_ack_pending=0
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> World:
    return World(monkeypatch, metrics)


async def test_judges_nothing_before_a_full_lease_has_passed_and_then_what_was_overdue_at_the_mark(
    world: World,
) -> None:
    await world.rounds(LEASE.total_seconds())
    assert world.judged == []
    await world.round()  # the mark
    marked = await world.database_time()
    await world.round()
    assert world.judged == [marked]
    assert world.attempts.expire.await_args.kwargs == {"overdue_before": marked, "among": []}


async def test_goes_on_judging_one_mark_behind(world: World) -> None:
    await world.rounds(LEASE.total_seconds() + 5)
    assert len(world.judged) >= 4
    assert world.judged == sorted(set(world.judged))


@pytest.mark.parametrize("outage", ["database", "jetstream", "disconnect", "sleep"])
async def test_after_an_outage_a_full_lease_must_pass_again(world: World, outage: str) -> None:
    await world.rounds(LEASE.total_seconds() + 3)
    before = len(world.judged)
    assert before > 0
    if outage == "database":
        world.attempts.get_time.side_effect = DatabaseUnavailable
        with pytest.raises(DatabaseUnavailable):
            await world.round()
        world.attempts.get_time.side_effect = world.database_time
        before = len(world.judged)
    elif outage == "jetstream":
        world.jetstream.consumer_info.side_effect = nats.js.errors.ServiceUnavailableError
        with pytest.raises(BusUnavailable):
            await world.round()
        world.jetstream.consumer_info.side_effect = world._consumer_info
    elif outage == "disconnect":
        world.connected_since = world.now
    else:
        await world.round(after_seconds=LEASE.total_seconds() / 2 + 1)
    await world.rounds(LEASE.total_seconds() - 1)
    assert len(world.judged) == before
    await world.rounds(4)
    assert len(world.judged) > before


async def test_waits_until_the_results_handed_in_before_the_mark_are_projected(world: World) -> None:
    world.last_sequence, world.ack_floor, world.pending = 7, 6, 1
    await world.rounds(LEASE.total_seconds() + 1)
    marked = await world.database_time()
    await world.rounds(5)
    assert world.judged == []
    # Others have come since, and are still on their way: only the mark counts.
    world.last_sequence, world.ack_floor, world.pending = 20, 7, 13
    await world.round()
    assert world.judged == [marked]


async def test_what_is_overdue_is_looked_for_among_the_results_before_it_is_judged(world: World) -> None:
    world.attempts.get_overdue.return_value = ["forgotten", "lost"]
    looked_for: list[str] = []
    world.recall.recall.side_effect = looked_for.append
    world.attempts.requeue_lost.side_effect = lambda **_: [] if sorted(looked_for) == ["forgotten", "lost"] else None
    await world.rounds(LEASE.total_seconds() + 2)
    for judging in (world.attempts.requeue_lost, world.attempts.expire):
        assert sorted(judging.await_args.kwargs["among"]) == ["forgotten", "lost"]


async def test_what_storage_keeps_from_being_recalled_is_not_judged_and_the_others_are(world: World) -> None:
    world.attempts.get_overdue.return_value = ["hidden", "lost"]

    async def recall(generation_id: str) -> None:
        if generation_id == "hidden":
            raise StorageUnavailable

    world.recall.recall.side_effect = recall
    await world.rounds(LEASE.total_seconds() + 2)
    assert world.attempts.requeue_lost.await_args.kwargs["among"] == ["lost"]
    assert world.attempts.expire.await_args.kwargs["among"] == ["lost"]


async def test_a_stream_made_anew_voids_the_mark(world: World) -> None:
    world.last_sequence, world.ack_floor, world.pending = 7, 6, 1
    await world.rounds(LEASE.total_seconds() + 1)
    world.stream_created += timedelta(hours=1)
    world.last_sequence, world.ack_floor, world.pending = 3, 0, 3
    await world.rounds(3)
    assert world.judged == []
    world.ack_floor, world.pending = 3, 0
    await world.round()
    assert len(world.judged) == 1
    assert world.judged[0] > EPOCH + timedelta(seconds=1000 + LEASE.total_seconds() + 1)


async def test_hints_that_are_gone_are_published_again_and_no_others(world: World) -> None:
    world.dispatched = {"tiny": {"gone": timedelta(seconds=9), "there": timedelta(seconds=8), "new": timedelta(0)}}
    world.hints = {"easel.tasks.tiny.there": 1}
    await world.round()
    assert [call.args for call in world.queue.unmark_dispatched.await_args_list] == [(["gone"],)]


async def test_hints_that_are_out_for_long_are_published_again_though_they_are_there(world: World) -> None:
    world.dispatched = {"tiny": {"old": HINT_PATIENCE + timedelta(seconds=1), "young": HINT_PATIENCE / 2}}
    world.hints = {"easel.tasks.tiny.old": 1, "easel.tasks.tiny.young": 1}
    await world.round()
    assert [call.args for call in world.queue.unmark_dispatched.await_args_list] == [(["old"],)]


async def test_lost_hints_are_repaired_also_while_nothing_is_judged(world: World) -> None:
    world.dispatched = {"tiny": {"gone": HINT_PATIENCE / 2}}
    await world.round()
    world.queue.unmark_dispatched.assert_awaited_once()
    assert world.judged == []

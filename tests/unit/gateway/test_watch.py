"""Watching: what a watcher is shown, and what not."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from easel.v1.generation_pb2 import GenerationSpec
from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.errors import GenerationNotFound
from gateway.hub import Hub
from gateway.metrics import Metrics
from gateway.record.generation import Event, Generation, Revision, State
from gateway.reports import MAX_PREVIEW_BYTES
from gateway.resume_token import Position
from gateway.watch import Sight, Watching

ID = "01920000-0000-7000-8000-000000000001"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def generation(state: State, *, revision: int, attempt: int) -> Generation:
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "request_id",
            "progress",
            "phase_times",
            "failure",
            "retried_from",
            "deadline_time",
            "purge_time",
            "delete_time",
        )
    )
    return Generation(
        id=ID,
        owner="default",
        model="tiny",
        priority=0,
        spec=GenerationSpec(),
        resolved_spec=GenerationSpec(),
        state=state,
        revision=revision,
        attempt=attempt,
        images=(),
        create_time=EPOCH,
        start_time=EPOCH,
        end_time=EPOCH,
        **nothing,
    )


def report_of(
    *, attempt: int, sequence: int, step: int = 0, preview: bytes = b"", claim_id: str = ""
) -> ProgressReport:
    report = ProgressReport(generation_id=ID, sequence=sequence, claim_id=claim_id)
    report.progress.attempt = attempt
    report.progress.step = step
    if preview:
        report.preview.attempt = attempt
        report.preview.content_type = "image/jpeg"
        report.preview.data = preview
    return report


class Life:
    """The life of a generation in the record, one change after the other, and its watcher."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.generations = AsyncMock()
        self.generations.get_generation.side_effect = self._get
        self.generations.get_history.side_effect = self._get_history
        self.claim_id: str | None = None
        self.bus = AsyncMock()
        self.bus.last.return_value = None
        self.hub = Hub(self.bus, self.generations)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.change(State.QUEUED, attempt=0)

    def change(self, state: State, *, attempt: int, nudge: bool = True) -> None:
        revision = len(self.events) + 1
        time = EPOCH + timedelta(seconds=revision)
        self.events.append(Event(revision=revision, state=state, attempt=attempt, time=time))
        if nudge:
            self.hub._hear_of(ID, revision)

    def report(self, *, attempt: int, sequence: int, step: int = 0, preview: bytes = b"", claim_id: str = "") -> None:
        report = report_of(attempt=attempt, sequence=sequence, step=step, preview=preview, claim_id=claim_id)
        for mailbox in self.hub._mailboxes[ID]:
            mailbox.receive(report)

    async def restore(self, *, revision: int) -> None:
        """Forget what came after a revision, and find that out."""
        del self.events[revision:]
        await self.recheck()

    async def recheck(self) -> None:
        last = self.events[-1]
        self.generations.get_revisions.return_value = {ID: Revision(last.revision, last.state)}
        await self.hub.recheck()

    def watch(self, *, revision: int = 0, attempt: int = 0, sequence: int = 0) -> "Watcher":
        position = Position(generation_id=ID, revision=revision, attempt=attempt, sequence=sequence)
        watching = Watching(self.generations, self.hub, self.bus, metrics=self.metrics)
        return Watcher(watching.watch_generation(position, owner="default"))

    def lag(self, what: str) -> float:
        return self.registry.get_sample_value(f"easel_watch_lag_seconds_{what}") or 0.0

    async def _get(self, generation_id: str, *, owner: str) -> Generation:
        last = self.events[-1]
        current = generation(last.state, revision=last.revision, attempt=last.attempt)
        return replace(current, claim_id=self.claim_id)

    async def _get_history(
        self, generation_id: str, *, owner: str, after_revision: int
    ) -> tuple[Generation, list[Event]]:
        return await self._get(generation_id, owner=owner), [e for e in self.events if e.revision > after_revision]


class Watcher:
    def __init__(self, sights: Any) -> None:
        self._sights = sights

    async def next(self) -> Sight | None:
        async with asyncio.timeout(5):
            return await anext(self._sights, None)

    async def seen(self) -> tuple[str, int | bytes, int]:
        """Tell what comes next, what it shows, and how far it brings the watcher."""
        sight = await self.next()
        assert sight is not None
        if sight.preview is not None:
            return "preview", sight.preview.data, sight.position.sequence
        assert sight.progress is not None
        return "progress", sight.progress.step, sight.position.sequence

    async def states(self, count: int) -> list[State]:
        sights = [await self.next() for _ in range(count)]
        return [sight.generation.state for sight in sights if sight is not None and sight.generation is not None]


@pytest.fixture
def life() -> Life:
    return Life()


async def test_a_new_watcher_sees_the_present_and_then_every_change(life: Life) -> None:
    watcher = life.watch()
    assert await watcher.states(1) == [State.QUEUED]
    life.change(State.RUNNING, attempt=1)
    life.change(State.QUEUED, attempt=1)
    life.change(State.RUNNING, attempt=2)
    life.change(State.SUCCEEDED, attempt=2)
    assert await watcher.states(4) == [State.RUNNING, State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert await watcher.next() is None


async def test_it_is_measured_how_long_a_watcher_waits_for_what_was_heard_of(life: Life) -> None:
    watcher = life.watch()
    await watcher.next()
    life.change(State.RUNNING, attempt=1)
    life.change(State.QUEUED, attempt=1)
    # The second change was on its way together with the first.
    await watcher.next()
    await asyncio.sleep(0.05)
    await watcher.next()
    assert life.lag("count") == 0
    end = asyncio.create_task(watcher.states(1))
    async with asyncio.timeout(5):
        while life.lag("count") == 0:  # noqa: ASYNC110  # it is on its way
            await asyncio.sleep(0)
    life.change(State.CANCELLED, attempt=1)
    assert await end == [State.CANCELLED]
    assert await watcher.next() is None
    assert life.lag("count") == 2
    assert 0.05 <= life.lag("sum") < 5


async def test_a_lost_nudge_is_repaired_by_the_recheck(life: Life) -> None:
    watcher = life.watch()
    await watcher.next()
    life.change(State.CANCELLED, attempt=0, nudge=False)
    await life.recheck()
    assert await watcher.states(1) == [State.CANCELLED]
    assert await watcher.next() is None


async def test_what_is_purged_meanwhile_is_not_found_and_keeps_no_watcher(life: Life) -> None:
    watcher = life.watch()
    assert await watcher.states(1) == [State.QUEUED]
    life.generations.get_revisions.return_value = {}
    life.generations.get_history.side_effect = None
    life.generations.get_history.return_value = None
    await life.hub.recheck()
    with pytest.raises(GenerationNotFound):
        await watcher.next()


async def test_progress_of_an_attempt_that_is_not_current_is_dropped(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    watcher = life.watch()
    await watcher.next()
    life.report(attempt=1, sequence=1)
    sight = await watcher.next()
    assert sight is not None
    assert sight.progress is not None
    life.change(State.QUEUED, attempt=1)
    life.change(State.RUNNING, attempt=2)
    assert await watcher.states(2) == [State.QUEUED, State.RUNNING]
    life.report(attempt=1, sequence=2)
    waiting = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    life.report(attempt=2, sequence=1)
    sight = await waiting
    assert sight is not None
    assert sight.progress is not None
    assert sight.progress.attempt == 2


async def test_a_resumed_watch_sees_no_step_twice(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    life.bus.last.return_value = ProgressReport(generation_id=ID, sequence=5)
    life.bus.last.return_value.progress.attempt = 1
    watcher = life.watch(revision=2, attempt=1, sequence=5)
    assert await watcher.states(1) == [State.RUNNING]
    waiting = asyncio.ensure_future(watcher.next())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    life.report(attempt=1, sequence=6)
    sight = await waiting
    assert sight is not None
    assert sight.position.sequence == 6


async def test_a_preview_comes_after_the_progress_it_brings(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    watcher = life.watch()
    await watcher.next()
    life.report(attempt=1, sequence=1, step=5)
    assert await watcher.seen() == ("progress", 5, 1)
    life.report(attempt=1, sequence=2, step=5, preview=b"five")  # it brings no other progress
    assert await watcher.seen() == ("preview", b"five", 2)
    life.report(attempt=1, sequence=3, step=6, preview=b"six")
    assert await watcher.seen() == ("progress", 6, 3)
    assert await watcher.seen() == ("preview", b"six", 3)
    life.report(attempt=1, sequence=4, step=6)  # whereas a report without one is a sign of life
    assert await watcher.seen() == ("progress", 6, 4)


async def test_a_slow_watcher_is_shown_the_last_preview_and_then_the_last_progress(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    watcher = life.watch()
    await watcher.next()
    life.report(attempt=1, sequence=1, step=1)
    await watcher.next()
    for sequence in range(2, 9):
        life.report(attempt=1, sequence=sequence, step=sequence, preview=b"%d" % sequence if sequence < 7 else b"")
    assert [await watcher.seen() for _ in range(3)] == [("progress", 6, 6), ("preview", b"6", 6), ("progress", 8, 8)]


async def test_a_preview_of_an_attempt_that_is_not_current_is_dropped(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    life.change(State.QUEUED, attempt=1)
    watcher = life.watch()
    await watcher.next()
    life.report(attempt=1, sequence=8, preview=b"while it waits")
    life.change(State.RUNNING, attempt=2)
    assert await watcher.states(1) == [State.RUNNING]
    life.report(attempt=1, sequence=9, preview=b"late")
    life.report(attempt=2, sequence=1, step=1)
    assert await watcher.seen() == ("progress", 1, 1)


async def test_a_resumed_watch_sees_no_preview_again(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    life.bus.last.return_value = report_of(attempt=1, sequence=5, preview=b"five")
    watcher = life.watch(revision=2, attempt=1, sequence=5)
    assert await watcher.states(1) == [State.RUNNING]
    waiting = asyncio.ensure_future(watcher.seen())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    life.report(attempt=1, sequence=6, step=6)
    assert await waiting == ("progress", 6, 6)


async def test_a_watch_that_begins_in_the_middle_sees_the_last_preview_if_it_may_be_shown(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    for preview, kinds in ((b"five", ["progress", "preview"]), (bytes(MAX_PREVIEW_BYTES + 1), ["progress"])):
        life.bus.last.return_value = report_of(attempt=1, sequence=5, step=5, preview=preview)
        watcher = life.watch()
        await watcher.next()
        assert [(await watcher.seen())[0] for _ in kinds] == kinds
        life.report(attempt=1, sequence=6, step=6)
        assert await watcher.seen() == ("progress", 6, 6)


async def test_a_resumed_watch_of_what_is_final_ends_at_once(life: Life) -> None:
    life.change(State.CANCELLED, attempt=0)
    for revision, states in ((1, [State.CANCELLED]), (2, [State.CANCELLED])):
        watcher = life.watch(revision=revision)
        assert await watcher.states(1) == states
        assert await watcher.next() is None


async def test_a_token_ahead_of_a_restored_record_is_shown_the_present(life: Life) -> None:
    watcher = life.watch(revision=9)
    assert await watcher.states(1) == [State.QUEUED]
    life.change(State.CANCELLED, attempt=0)
    assert await watcher.states(1) == [State.CANCELLED]


async def test_a_token_ahead_of_a_restored_record_hides_no_progress(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    watcher = life.watch(revision=4, attempt=1, sequence=400)
    assert await watcher.states(1) == [State.RUNNING]
    life.report(attempt=1, sequence=1, step=1)
    assert await watcher.seen() == ("progress", 1, 1)


async def test_a_watcher_of_a_record_that_is_restored_meanwhile_is_shown_the_present_and_then_every_change(
    life: Life,
) -> None:
    life.change(State.RUNNING, attempt=1)
    life.change(State.QUEUED, attempt=1)
    watcher = life.watch()
    assert await watcher.states(1) == [State.QUEUED]
    life.change(State.RUNNING, attempt=2)
    assert await watcher.states(1) == [State.RUNNING]
    await life.restore(revision=2)
    assert await watcher.states(1) == [State.RUNNING]
    life.change(State.SUCCEEDED, attempt=1)
    sight = await watcher.next()
    assert sight is not None
    assert sight.position.revision == 3
    assert await watcher.next() is None


async def test_a_record_that_was_restored_to_what_was_not_seen_yet_is_no_news(life: Life) -> None:
    watcher = life.watch()
    assert await watcher.states(1) == [State.QUEUED]
    life.change(State.RUNNING, attempt=1)
    await life.restore(revision=1)
    life.change(State.CANCELLED, attempt=0)
    assert await watcher.states(1) == [State.CANCELLED]
    assert await watcher.next() is None


async def test_a_watcher_of_a_restored_record_that_went_as_far_another_way_sees_its_end(life: Life) -> None:
    watcher = life.watch()
    life.change(State.RUNNING, attempt=1)
    assert await watcher.states(1) == [State.RUNNING]
    life.change(State.QUEUED, attempt=1)
    assert await watcher.states(1) == [State.QUEUED]
    await life.recheck()
    del life.events[1:]
    life.change(State.RUNNING, attempt=1)
    life.change(State.SUCCEEDED, attempt=1)
    await life.recheck()
    assert await watcher.states(1) == [State.SUCCEEDED]
    assert await watcher.next() is None


async def test_a_recheck_that_finds_what_is_known_is_no_news(life: Life) -> None:
    watcher = life.watch()
    assert await watcher.states(1) == [State.QUEUED]
    await life.recheck()
    await life.recheck()
    life.change(State.CANCELLED, attempt=0)
    assert await watcher.states(1) == [State.CANCELLED]
    assert life.generations.get_generation.await_count == 1


async def test_progress_of_the_same_number_by_another_claim_is_dropped(life: Life) -> None:
    life.change(State.RUNNING, attempt=1)
    life.claim_id = "c2"
    watcher = life.watch()
    await watcher.next()
    life.report(attempt=1, sequence=400, step=19, claim_id="c1")
    waiting = asyncio.ensure_future(watcher.seen())
    await asyncio.sleep(0)
    life.report(attempt=1, sequence=1, step=1, claim_id="c2")
    assert await waiting == ("progress", 1, 1)


async def test_what_is_not_there_is_not_found(life: Life) -> None:
    life.generations.get_generation.side_effect = None
    life.generations.get_generation.return_value = None
    with pytest.raises(GenerationNotFound):
        await life.watch().next()

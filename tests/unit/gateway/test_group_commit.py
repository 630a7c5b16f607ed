"""Requests that share a commit, and what each of them hears."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import cast

import pytest

from easel.v1.generation_pb2 import GenerationSpec
from gateway import group_commit
from gateway.errors import DatabaseUnavailable
from gateway.group_commit import GroupCommit
from gateway.record.generation import Generation
from gateway.record.generations import Generations, NewGeneration

POISON = "poison"


def request(name: str) -> NewGeneration:
    spec = GenerationSpec(prompt="a castle")
    return NewGeneration(
        owner="default", request_id=name, model="tiny", priority=0, timeout=None, spec=spec, resolved_spec=spec
    )


class Record:
    """Stores when it is told to, and refuses every statement that holds a poisonous row."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.entered = asyncio.Event()
        self.outage = False

    async def create_generations(self, requests: Sequence[NewGeneration]) -> list[Generation | None]:
        names = [one.request_id or "" for one in requests]
        self.statements.append(names)
        self.entered.set()
        await self.going_on.wait()
        if self.outage:
            raise DatabaseUnavailable
        if POISON in names:
            raise ValueError(POISON)
        row = {"create_time": datetime.now(UTC), "deadline_time": None}
        return [one.accepted({**row, "id": f"id of {one.request_id}"}) for one in requests]


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def commits(record: Record) -> GroupCommit:
    return GroupCommit(cast("Generations", record), timeout_seconds=10)


class Caller:
    """Somebody who waits for an answer."""

    def __init__(self, commits: GroupCommit, name: str) -> None:
        self.name = name
        self.task = asyncio.create_task(commits.create_generation(request(name)))

    async def gets_its_own(self) -> bool:
        generation = await self.task
        return generation is not None and generation.id == f"id of {self.name}"


async def held(record: Record, commits: GroupCommit) -> Caller:
    """Have one request under way until the record goes on."""
    record.going_on.clear()
    first = Caller(commits, "first")
    await record.entered.wait()
    return first


async def callers(commits: GroupCommit, *names: str) -> list[Caller]:
    """Have more requests come, and wait for the next commit."""
    come = [Caller(commits, name) for name in names]
    await asyncio.sleep(0)  # each takes its first step, which is all until its answer
    return come


async def test_one_that_comes_alone_is_committed_alone_and_at_once(record: Record, commits: GroupCommit) -> None:
    for name in ("a", "b"):
        assert await Caller(commits, name).gets_its_own()
    assert record.statements == [["a"], ["b"]]


async def test_those_that_come_during_a_commit_share_the_next(record: Record, commits: GroupCommit) -> None:
    first = await held(record, commits)
    others = await callers(commits, "a", "b", "c")
    assert record.statements == [["first"]]
    record.going_on.set()
    assert all([await one.gets_its_own() for one in (first, *others)])
    assert record.statements == [["first"], ["a", "b", "c"]]


async def test_those_that_come_after_a_crowd_gather_for_a_moment(
    record: Record, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 0.5)
    first = await held(record, commits)
    crowd = await callers(commits, *"abcd")
    record.going_on.set()
    await asyncio.gather(*(one.task for one in (first, *crowd)))
    later = await callers(commits, "later")
    later += await callers(commits, "latest")
    assert all([await one.gets_its_own() for one in later])
    assert record.statements == [["first"], ["a", "b", "c", "d"], ["later", "latest"]]


async def test_no_statement_holds_more_rows_than_it_may(
    record: Record, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_ROWS", 2)
    await held(record, commits)
    others = await callers(commits, "a", "b", "c")
    record.going_on.set()
    assert all([await one.gets_its_own() for one in others])
    assert record.statements == [["first"], ["a", "b"], ["c"]]


async def test_one_that_is_refused_fails_alone(record: Record, commits: GroupCommit) -> None:
    await held(record, commits)
    before, poisonous, after = await callers(commits, "a", POISON, "b")
    record.going_on.set()
    with pytest.raises(ValueError, match=POISON):
        await poisonous.task
    assert await before.gets_its_own()
    assert await after.gets_its_own()
    assert record.statements == [["first"], ["a", POISON, "b"], ["a"], [POISON], ["b"]]


async def test_an_outage_is_told_to_all_who_were_in_it_and_to_nobody_after(
    record: Record, commits: GroupCommit
) -> None:
    first = await held(record, commits)
    others = await callers(commits, "a", "b")
    record.outage = True
    record.going_on.set()
    errors = await asyncio.gather(*(one.task for one in (first, *others)), return_exceptions=True)
    assert [type(error) for error in errors] == [DatabaseUnavailable] * 3
    assert len({id(error) for error in errors}) == 3  # each has a traceback of its own
    record.outage = False
    assert await Caller(commits, "later").gets_its_own()


async def test_nobody_waits_longer_than_a_commit_may_take(record: Record) -> None:
    commits = GroupCommit(cast("Generations", record), timeout_seconds=0.01)
    first = await held(record, commits)
    others = await callers(commits, "a", "b")
    for one in (first, *others):
        with pytest.raises(DatabaseUnavailable):
            await one.task
    commits._timeout_seconds = 10
    record.going_on.set()
    # Who was told so before its commit is not stored any more.
    assert await Caller(commits, "later").gets_its_own()
    assert record.statements == [["first"], ["later"]]


async def test_one_that_left_before_its_commit_is_not_stored(record: Record, commits: GroupCommit) -> None:
    await held(record, commits)
    gone, stays = await callers(commits, "gone", "stays")
    gone.task.cancel()
    await asyncio.wait([gone.task])
    record.going_on.set()
    assert await stays.gets_its_own()
    assert record.statements == [["first"], ["stays"]]


async def test_when_all_have_left_nothing_is_stored(record: Record, commits: GroupCommit) -> None:
    first = await held(record, commits)
    (gone,) = await callers(commits, "gone")
    gone.task.cancel()
    await asyncio.wait([gone.task])
    record.going_on.set()
    assert await first.gets_its_own()
    assert await Caller(commits, "later").gets_its_own()
    assert record.statements == [["first"], ["later"]]


@pytest.mark.parametrize("outage", [False, True])
async def test_one_that_leaves_during_its_commit_leaves_the_others_alone(
    record: Record, commits: GroupCommit, outage: bool
) -> None:
    first = await held(record, commits)
    record.outage = outage
    (next_one,) = await callers(commits, "next")
    first.task.cancel()
    await asyncio.wait([first.task])
    assert first.task.cancelled()
    record.going_on.set()
    if outage:
        with pytest.raises(DatabaseUnavailable):
            await next_one.task
    else:
        assert await next_one.gets_its_own()


async def test_what_one_caller_is_about_is_not_what_all_are_about(record: Record, commits: GroupCommit) -> None:
    about: ContextVar[str] = ContextVar("about", default="nobody")
    seen: list[str] = []
    create = record.create_generations

    async def create_and_look(requests: Sequence[NewGeneration]) -> list[Generation | None]:
        seen.append(about.get())
        return await create(requests)

    record.create_generations = create_and_look  # type: ignore[method-assign]
    about.set("first")
    assert await Caller(commits, "first").gets_its_own()
    assert seen == ["nobody"]

"""Everything that is done to the record, in any order and at the same time, against the real PostgreSQL.

Hypothesis makes up stories of a few generations. Each of their steps runs one operation, or several at once, each over
a connection of its own; `record_model` says which answers and which rows are right. A long search, with other stories
each time, is `EASEL_RACES_EXAMPLES=10000 python -m pytest tests/integration/test_races.py --timeout 0`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text

from easel.v1.generation_pb2 import GenerationSpec
from gateway.record.adoption import Adoption, ForgottenAttempt
from gateway.record.attempts import Attempt, Attempts, Grant, NotYet, Refusal, RetryPolicy
from gateway.record.database import Database
from gateway.record.generation import Change, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.models import Models
from gateway.record.queue import Queue
from gateway.record.removal import Removal
from tests.integration import record_model as model
from tests.integration.record_model import ModelAttempt, ModelGeneration, Step

#: 0 is the everyday search: the same stories everywhere.
EXAMPLES = int(os.environ.get("EASEL_RACES_EXAMPLES", "0"))
EVERYDAY_EXAMPLES = 60
SETTINGS = settings(
    max_examples=EXAMPLES or EVERYDAY_EXAMPLES,
    stateful_step_count=30,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

OWNER, MODEL = "default", "tiny"
SLOTS = 1
#: Of those that are not final; there is always one.
MAX_LIVE = 3
#: Numbers below mean one of those generations to which an operation is likely to do something, others any.
LIKELY_NUMBERS = 4
#: Nothing runs out by itself: time passes when a rule says so.
LONG = timedelta(hours=1)
POLICY = RetryPolicy(max_lost_attempts=model.MAX_LOST_ATTEMPTS, backoff=LONG)
PATIENCE_SECONDS = 20.0
#: Races are the same without waiting for the disk, and there are ten times as many in a second; and the plans are to be
#: those of a record that has filled up.
OPTIONS = ("synchronous_commit=off", "enable_seqscan=off", "enable_hashjoin=off", "enable_mergejoin=off")

#: What an operation comes to for a generation: the steps of the model, and what the record answered of it. None for
#: those that it is not about.
Account = Callable[[ModelGeneration], tuple[Sequence[Step], Any] | None]
#: The name of a method of `Operations`, and its arguments.
Operation = tuple[Any, ...]
#: An attempt: the number of its generation, how many before the latest, and how its claim is named.
Which = tuple[int, int, str]
RIGHT, NONE, STRANGE = "right", "none", "strange"
FORGOTTEN = "forgotten"


def is_live(one: ModelGeneration) -> bool:
    return one.is_live


def is_claimable(one: ModelGeneration) -> bool:
    return one.state == State.QUEUED and not one.backing_off and not one.deadline_passed


def was_asked_for(one: ModelGeneration) -> bool:
    return one.is_live and one.attempt > 0


def is_running(one: ModelGeneration) -> bool:
    return one.state == State.RUNNING


def is_final(one: ModelGeneration) -> bool:
    return not one.is_live and not one.purged


def is_hinted(one: ModelGeneration) -> bool:
    return one.dispatched


#: The times that may pass, and of which generations they are likely to.
TIMES: Mapping[str, Callable[[ModelGeneration], bool]] = {
    "lease_expire_time": is_running,
    "available_time": lambda one: one.backing_off and one.is_live,
    "deadline_time": is_live,
    "purge_time": is_final,
}


class Operations:
    """What is done to the record. Each returns its account when it is done.

    `skips` says whether a statement may pass over what another one holds.
    """

    def __init__(self, database: Database) -> None:
        self._generations = Generations(database, retention=LONG)
        self._attempts = Attempts(database, retention=LONG)
        self._adoption = Adoption(database, retention=LONG)
        self._queue = Queue(database)
        self._removal = Removal(database)
        self._nonces = 0
        self.known: list[ModelGeneration] = []
        self.created: list[ModelGeneration] = []
        self.skips = False

    async def create(self) -> Account:
        request = NewGeneration(
            owner=OWNER,
            request_id=None,
            model=MODEL,
            priority=0,
            timeout=LONG,
            spec=GenerationSpec(prompt="a castle"),
            resolved_spec=GenerationSpec(prompt="a castle"),
        )
        (created,) = await self._generations.create_generations([request])
        assert created is not None
        self.created.append(ModelGeneration(id=created.id))
        return lambda one: None

    async def claim(self, number: int, repeats: int) -> Account:
        """Claim anew, or repeat the latest claim, or the one before that."""
        one, nonce = self.meant(number, was_asked_for if repeats else is_claimable), self._nonce()
        asked = [attempt.claim_id for attempt in one.attempts][-repeats:] if repeats else []
        claim_id = asked[0] if asked else f"claim-{nonce}"
        answer = await self._attempts.claim(one.id, claim_id=claim_id, worker_id="w", nonce=nonce, lease=LONG)
        return _about(one.id, model.claim(claim_id, nonce), _of_claim(answer))

    async def renew(self, whiches: Sequence[Which]) -> Account:
        attempts = self._attempts_meant(whiches)
        kept = await self._attempts.renew(attempts, lease=LONG)
        return _about_each(attempts, model.renew, lambda attempt: attempt in kept)

    async def release(self, whiches: Sequence[Which]) -> Account:
        attempts = self._attempts_meant(whiches)
        changes = _by_id(await self._attempts.release(attempts))
        return _about_each(attempts, model.release, lambda attempt: changes.get(attempt.generation_id))

    async def save_progress(self, whiches: Sequence[Which], sequence: int) -> Account:
        attempts = self._attempts_meant(whiches)
        await self._attempts.save_progress([(attempt, sequence, {"step": sequence}) for attempt in attempts])
        return _about_each(attempts, lambda number: model.save_progress(number, sequence), lambda attempt: None)

    async def succeed(self, *which: Any) -> Account:
        attempt = self._attempt_meant(*which)
        one = next(one for one in self.known if one.id == attempt.generation_id)
        prefix = one.attempts[attempt.number - 1].object_prefix if one.has(attempt.number) else "results/none/"
        images = [{"image": {"index": 0}, "object_key": f"{prefix}0.png"}]
        change = await self._attempts.succeed(attempt, images=images, phase_times={})
        return _about(one.id, model.succeed(_number(attempt)), _of_change(change))

    async def fail(self, reason: str, *which: Any) -> Account:
        attempt = self._attempt_meant(*which)
        failure = {"reason": reason, "message": "no"}
        change = await self._attempts.fail(attempt, failure=failure, policy=POLICY)
        return _about(attempt.generation_id, model.fail(_number(attempt), reason), _of_change(change))

    async def cancel(self, number: int) -> Account:
        one = self.meant(number)
        change = await self._generations.cancel_generation(one.id, owner=OWNER)
        return _about(one.id, model.cancel(), _of_change(change))

    async def delete(self, number: int, immediately: bool) -> Account:
        one = self.meant(number, is_final)
        deleted = await self._removal.delete_generation(one.id, owner=OWNER, immediately=immediately)
        return _about(one.id, model.delete(), deleted)

    async def adopt(self, number: int, forgotten: int) -> Account:
        one = self.meant(number, is_live)
        attempt = _forgotten(one, forgotten)
        images = [{"image": {"index": 0}, "object_key": f"{attempt.object_prefix}0.png"}]
        change = await self._adoption.adopt(attempt, images=images, phase_times={})
        steps = model.adopt(
            ModelAttempt(number=attempt.number, claim_id=attempt.claim_id, object_prefix=attempt.object_prefix)
        )
        return _about(one.id, steps, _of_change(change))

    async def put_down(self, number: int, forgotten: int) -> Account:
        one = self.meant(number, is_final)
        attempt = _forgotten(one, forgotten)
        return _about(one.id, model.put_down(attempt.object_prefix), await self._adoption.put_down(attempt))

    async def unmark_dispatched(self, number: int) -> Account:
        one = self.meant(number, is_hinted)
        return _about(one.id, model.unmark_dispatched(), await self._queue.unmark_dispatched([one.id]) == 1)

    # What is done to all that are due.

    async def mark_dispatched(self) -> Account:
        hinted = {hint.generation_id for hint in await self._queue.mark_dispatched(liveness=LONG)}
        # Which of those that are due are left for want of room is for the tests of the queue to say.
        return lambda one: (model.mark_dispatched(skips=True), one.id in hinted)

    async def requeue_lost(self) -> Account:
        now = await self._attempts.get_time()
        changes = _by_id(await self._attempts.requeue_lost(overdue_before=now, policy=POLICY))
        return lambda one: (model.requeue_lost(skips=self.skips), changes.get(one.id))

    async def expire(self) -> Account:
        changes = _by_id(await self._attempts.expire(overdue_before=await self._attempts.get_time()))
        return lambda one: (model.expire(skips=self.skips), changes.get(one.id))

    async def purge(self) -> Account:
        await self._removal.purge()
        return lambda one: (model.purge(skips=self.skips), None)

    def meant(self, number: int, likely: Callable[[ModelGeneration], bool] = lambda one: True) -> ModelGeneration:
        """Find the generation that a number means: mostly one to which something will happen."""
        likely_ones = [one for one in self.known if likely(one)] if number < LIKELY_NUMBERS else []
        among = likely_ones or self.known
        return among[number % len(among)]

    def _attempt_meant(self, number: int, back: int, claim: str) -> Attempt:
        """Find the attempt that is meant: of a generation, so many before its latest, and how its claim is named."""
        one = self.meant(number, is_running)
        attempt = max(one.attempt - back, 0)
        claim_ids = {RIGHT: one.attempts[attempt - 1].claim_id if attempt else "", NONE: "", STRANGE: STRANGE}
        return Attempt(generation_id=one.id, number=attempt, claim_id=claim_ids[claim])

    def _attempts_meant(self, whiches: Sequence[Which]) -> Sequence[Attempt]:
        """Find one attempt of each of some generations."""
        attempts = [self._attempt_meant(*which) for which in whiches]
        return list({attempt.generation_id: attempt for attempt in attempts}.values())

    def _nonce(self) -> str:
        self._nonces += 1
        return str(self._nonces)


class Story:
    """One story: what is done, and whether the record did it right."""

    def __init__(self, database: Database, aside: psycopg.AsyncConnection[Any]) -> None:
        self._database = database
        self._aside = aside
        self._operations = Operations(database)

    async def do(self, *doing: Operation, held: bool = False) -> None:
        """Run operations at the same time, and look at what comes of it.

        Args:
            doing: The operations.
            held: Whether all of them begin while somebody else holds the generations, so that each sees what was
                before, and then go on one after the other, in their order.
        """
        self._operations.skips = len(doing) > 1
        running: list[asyncio.Future[Account]] = []
        async with self._holding() if held else nullcontext():
            for name, *arguments in doing:
                running.append(asyncio.ensure_future(getattr(self._operations, name)(*arguments)))
                if held:
                    await self._until_waiting(running)
        await self._look(await asyncio.gather(*running))

    async def create(self) -> None:
        """Accept one more, unless there are enough that live."""
        if sum(one.is_live for one in self._operations.known) < MAX_LIVE:
            await self.do(("create",))

    async def draw(self) -> None:
        """Have everything claimed that waits."""
        while any(is_claimable(one) for one in self._operations.known):
            await self.do(("claim", 0, 0))

    async def lose(self, number: int) -> None:
        """Have an attempt be lost, and the wait for the next be over."""
        await self.pass_time(number, "lease_expire_time")
        await self.do(("requeue_lost",))
        await self.pass_time(number, "available_time")

    async def pass_time(self, number: int, column: str) -> None:
        """Let one of a generation's times be over, if it has it."""
        meant = self._operations.meant(number, TIMES[column])
        statement = f"UPDATE generations SET {column} = now() - interval '1 minute'"
        await self._database.execute(text(f"{statement} WHERE id = :id AND {column} IS NOT NULL"), {"id": meant.id})
        await self._look([_about(meant.id, model.pass_time(column), None)])

    async def end(self) -> None:
        """Leave nothing for other stories to meet."""
        await self._database.execute(text("TRUNCATE generations, object_deletions CASCADE"))

    async def _look(self, accounts: Sequence[Account]) -> None:
        """Find for each generation an order of what was done that explains all answers and all rows."""
        known = [*self._operations.known, *self._operations.created]
        self._operations.known, self._operations.created = known, []
        rows = await self._read()
        for index, one in enumerate(known):
            parts = [part for account in accounts if (part := account(one)) is not None]
            seen, answers = rows[one.id], tuple(answer for _, answer in parts)
            _check(seen, before=one)
            explanations = list(model.explanations(one, [steps for steps, _ in parts]))
            assert (seen, answers) in explanations, _complain(one, seen, answers, explanations)
            known[index] = seen

    async def _read(self) -> dict[str, ModelGeneration]:
        ids = [one.id for one in self._operations.known]
        rows = (await self._database.execute(_READ, {"ids": ids})).mappings().all()
        return {row["id"]: _seen(row) for row in rows}

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        async with self._aside.transaction():
            await self._aside.execute("SELECT FROM generations FOR UPDATE")
            yield

    async def _until_waiting(self, running: "Sequence[asyncio.Future[Account]]") -> None:
        """Wait until each has come to its end or to what is held."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                waiting = (await self._database.execute(_WAITING)).scalar_one()
                if waiting + sum(one.done() for one in running) >= len(running):
                    return
                await asyncio.sleep(0.001)


_WAITING = text("""
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
""")

_READ = text("""
    SELECT asked.id, generations.id IS NULL AS purged, state, revision, attempt, generations.claim_id, lost_attempts,
           failure ->> 'reason' AS failure_reason, images, dispatched_time IS NOT NULL AS dispatched,
           available_time > now() AS backing_off, coalesce(lease_expire_time < now(), false) AS lease_ran_out,
           deadline_time < now() AS deadline_passed, coalesce(purge_time < now(), false) AS purge_due,
           delete_time IS NOT NULL AS deleted,
           ARRAY(SELECT to_jsonb(attempts) FROM attempts WHERE generation_id = asked.id ORDER BY number) AS attempts,
           ARRAY(SELECT to_jsonb(events) FROM events WHERE generation_id = asked.id ORDER BY revision) AS events,
           ARRAY(SELECT object_prefix FROM object_deletions
                 WHERE starts_with(object_prefix, 'results/' || asked.id || '/')) AS object_deletions
    FROM unnest(CAST(:ids AS uuid[])) AS asked (id) LEFT JOIN generations ON generations.id = asked.id
""")


def _seen(row: Mapping[Any, Any]) -> ModelGeneration:
    """Read a generation with all that belongs to it, and check what holds of each by itself."""
    deletions = frozenset(row["object_deletions"])
    if row["purged"]:
        assert not row["attempts"]
        assert not row["events"]
        return model.purged(row["id"], object_deletions=deletions)
    assert [event["revision"] for event in row["events"]] == list(range(1, row["revision"] + 1))
    assert [attempt["number"] for attempt in row["attempts"]] == list(range(1, row["attempt"] + 1))
    assert row["state"] != State.RUNNING or row["claim_id"] == row["attempts"][-1]["claim_id"]
    return ModelGeneration(
        id=row["id"],
        state=State(row["state"]),
        attempts=tuple(
            ModelAttempt(
                number=attempt["number"],
                claim_id=attempt["claim_id"],
                object_prefix=attempt["object_prefix"],
                outcome=attempt["outcome"],
                sequence=attempt["progress_sequence"],
            )
            for attempt in row["attempts"]
        ),
        events=tuple((State(event["state"]), event["attempt"]) for event in row["events"]),
        lost_attempts=row["lost_attempts"],
        failure_reason=row["failure_reason"],
        pictures=row["images"][0]["object_key"].removesuffix("0.png") if row["images"] else None,
        dispatched=row["dispatched"],
        backing_off=row["backing_off"],
        lease_ran_out=row["lease_ran_out"],
        deadline_passed=row["deadline_passed"],
        purge_due=row["purge_due"],
        deleted=row["deleted"],
        object_deletions=deletions,
    )


def _check(seen: ModelGeneration, *, before: ModelGeneration) -> None:
    """Check the promises by themselves, whatever the model makes of it."""
    if seen.purged:
        assert not before.is_live
        return
    states = [state for state, _ in seen.events]
    assert states[-1] == seen.state
    assert not any(state.is_final for state in states[:-1])
    assert seen.events[: before.revision] == before.events
    still_open = [attempt.number for attempt in seen.attempts if attempt.outcome is None]
    assert still_open == ([seen.attempt] if seen.state == State.RUNNING else [])
    winners = [attempt.object_prefix for attempt in seen.attempts if attempt.outcome == "SUCCEEDED"]
    assert len(winners) == (seen.state == State.SUCCEEDED)
    if not seen.deleted:
        assert winners == ([seen.pictures] if seen.pictures else [])
        losers = {attempt.object_prefix for attempt in seen.attempts} - set(winners)
        put_down = {prefix for prefix in seen.object_deletions if FORGOTTEN not in prefix}
        assert put_down == (set() if seen.is_live else losers)
        assert not set(winners) & seen.object_deletions
    assert before.lost_attempts <= seen.lost_attempts
    claim_ids = [attempt.claim_id for attempt in seen.attempts]
    assert len(claim_ids) == len(set(claim_ids))


def _complain(
    before: ModelGeneration, seen: ModelGeneration, answers: object, explanations: Sequence[tuple[object, object]]
) -> str:
    lines = [f"before: {before}", f"seen:   {seen}", f"answers: {answers}", "what would be right:"]
    return "\n".join([*lines, *(f"        {after}, {right}" for after, right in explanations)])


def _forgotten(one: ModelGeneration, which: int) -> ForgottenAttempt:
    """Make up an attempt that followed those that are known, and that a backup knows nothing of."""
    name = f"{FORGOTTEN}-{which}"
    return ForgottenAttempt(
        generation_id=one.id,
        number=one.attempt + 1,
        worker_id="w",
        claim_id=name,
        object_prefix=f"results/{one.id}/{name}/",
    )


def _number(attempt: Attempt) -> int:
    """Say which attempt the model is to take it for: none, if it is of another claim."""
    return 0 if attempt.claim_id == STRANGE else attempt.number


def _about(generation_id: str, steps: Sequence[Step], answer: Any) -> Account:
    return lambda one: (steps, answer) if one.id == generation_id else None


def _about_each(
    attempts: Sequence[Attempt], steps: Callable[[int], Sequence[Step]], answer: Callable[[Attempt], Any]
) -> Account:
    parts = {attempt.generation_id: (steps(_number(attempt)), answer(attempt)) for attempt in attempts}
    return lambda one: parts.get(one.id)


def _of_claim(answer: Grant | Refusal | NotYet) -> Any:
    if isinstance(answer, Grant):
        is_new = "new" if answer.is_new else "known"
        return is_new, answer.attempt, answer.object_prefix, answer.alone, answer.revision
    return model.NOT_YET if isinstance(answer, NotYet) else answer.name


def _of_change(change: Change | None) -> Any:
    return None if change is None else (change.state, change.revision)


def _by_id(changes: Sequence[Change]) -> dict[str, Any]:
    return {change.generation_id: _of_change(change) for change in changes}


numbers = st.integers(0, LIKELY_NUMBERS + 1)
#: Mostly the current attempt.
backs = st.sampled_from((0, 0, 0, 1, 2))
claims = st.sampled_from((RIGHT, RIGHT, RIGHT, NONE, STRANGE))
whiches = st.lists(st.tuples(numbers, backs, claims), min_size=1, max_size=3)

#: For each operation how often it is done, and with what.
OPERATIONS: Mapping[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "claim": (6, (numbers, st.sampled_from((0, 0, 1, 2)))),
    "renew": (2, (whiches,)),
    "release": (2, (whiches,)),
    "save_progress": (2, (whiches, st.integers(1, 3))),
    "succeed": (3, (numbers, backs, claims)),
    "fail": (3, (st.sampled_from((model.MODEL_ERROR, model.INTERNAL, model.STORAGE)), numbers, backs, claims)),
    "cancel": (2, (numbers,)),
    "delete": (1, (numbers, st.booleans())),
    "adopt": (1, (numbers, st.integers(0, 1))),
    "put_down": (1, (numbers, st.integers(0, 1))),
    "mark_dispatched": (2, ()),
    "unmark_dispatched": (1, (numbers,)),
    "requeue_lost": (3, ()),
    "expire": (2, ()),
    "purge": (1, ()),
}
#: What else comes to pass, with nothing beside it.
EVENTS: Mapping[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "create": (2, ()),
    "draw": (4, ()),
    "lose": (2, (numbers,)),
    "pass_time": (3, (numbers, st.sampled_from([*TIMES, "lease_expire_time"]))),
}


def any_of(table: Mapping[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]]) -> st.SearchStrategy[Operation]:
    names = [name for name, (weight, _) in table.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), *table[name][1]))


class Stories(RuleBasedStateMachine):
    """Makes up stories."""

    def __init__(self, story: Story, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        super().__init__()
        self._story, self._run = story, run
        self._run(story.create())

    @rule(event=any_of(EVENTS), doing=any_of(OPERATIONS))
    def one_after_the_other(self, event: Operation, doing: Operation) -> None:
        name, *arguments = event
        self._run(getattr(self._story, name)(*arguments))
        self._run(self._story.do(doing))

    @rule(doing=st.lists(any_of(OPERATIONS), min_size=2, max_size=3), held=st.booleans())
    def at_the_same_time(self, doing: Sequence[Operation], held: bool) -> None:
        self._run(self._story.do(*doing, held=held))

    def teardown(self) -> None:
        self._run(self._story.end())


@pytest.mark.timeout(0 if EXAMPLES else 600)
def test_every_story_is_explained(record_url: str) -> None:
    url = f"{record_url}?options={quote(' '.join(f'-c{option}' for option in OPTIONS))}"

    async def open_record() -> tuple[Database, psycopg.AsyncConnection[Any]]:
        database = Database(url, pool_size=6, timeout_seconds=PATIENCE_SECONDS)
        await Models(database).report(worker_id="w", slots=SLOTS, free_slots=0, models=[(MODEL, {"name": MODEL})])
        return database, await psycopg.AsyncConnection.connect(url)

    with asyncio.Runner() as runner:
        database, aside = runner.run(open_record())
        try:
            begin: Any = lambda: Stories(Story(database, aside), runner.run)  # noqa: E731  # as good as a class to it
            run_state_machine_as_test(begin, settings=SETTINGS)
        finally:
            runner.run(aside.close())
            runner.run(database.close())

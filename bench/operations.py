"""Everything that a gateway does to the record, each as it is done in earnest, for a record made by `bench.history`.

A test takes the plan of each and finds that none is missing; `bench.bounds` measures them.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import text

from bench.callers import SPEC
from bench.history import BUSY, MODELS, QUIET
from bench.worker import MODEL
from gateway.record.adoption import Adoption, ForgottenAttempt
from gateway.record.attempts import Attempt, Attempts, Grant, RetryPolicy
from gateway.record.database import Database
from gateway.record.documents import to_json
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.listing import Filter, Listing
from gateway.record.models import Models
from gateway.record.queue import Queue
from gateway.record.removal import Removal

LEASE = timedelta(minutes=5)
DAY = timedelta(days=1)
#: Run out before it began.
PAST = timedelta(seconds=-1)
POLICY = RetryPolicy(max_lost_attempts=5, backoff=timedelta(0))
IMAGES = [{"image": {"index": 0, "sha256": "ab"}, "object_key": "results/bench/0.png"}]
FAILURE = {"reason": "FAILURE_REASON_MODEL_ERROR", "message": "no"}
#: What is measured waits before all else.
PRIORITY = 100

#: How many a sweep finds at once, a worker holds, a page has, a gateway watches.
FOUND = 10
HELD = 8
PAGE = 51
WATCHED = 500

#: What is timed.
Call = Callable[[], Awaitable[Any]]
#: Makes all ready for one call, which is not timed.
Prepare = Callable[[], Awaitable[Call]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Ids out of the history."""

    #: Of either owner, final ones and live ones.
    busy: Sequence[str]
    quiet: Sequence[str]
    #: Waiting ones, the first in the queue and the last.
    queued: Sequence[Generation]
    #: Of the quiet owner, whose other generations are behind all those of the busy one.
    request_ids: Sequence[str]

    @classmethod
    async def take(cls, database: Database) -> "Sample":
        """Look for some."""
        generations = Generations(database)
        ids = {owner: await _ids(database, owner=owner) for owner in (BUSY, QUIET)}
        waiting = await database.execute(text(_WAITING), {"model": MODELS[0], "owner": BUSY})
        queued = [await generations.get_generation(each, owner=BUSY) for each in waiting.scalars()]
        request_ids = await database.execute(text(_REQUEST_IDS), {"owner": QUIET})
        return cls(
            busy=ids[BUSY],
            quiet=ids[QUIET],
            queued=[one for one in queued if one is not None],
            request_ids=list(request_ids.scalars()),
        )


async def _ids(database: Database, *, owner: str) -> list[str]:
    return list((await database.execute(text(_IDS), {"owner": owner, "limit": WATCHED})).scalars())


_IDS = """
    SELECT id FROM (SELECT id FROM generations WHERE owner = :owner AND delete_time IS NULL) AS own
    ORDER BY md5(id::text) LIMIT :limit
"""
_WAITING = """
    WITH waiting AS (
        SELECT id, row_number() OVER (ORDER BY priority DESC, id) AS place, count(*) OVER () AS length
        FROM generations WHERE model = :model AND owner = :owner AND state = 'QUEUED'
    )
    SELECT id FROM waiting WHERE place IN (1, length / 2 + 1, length) ORDER BY place
"""
_REQUEST_IDS = "SELECT request_id FROM generations WHERE owner = :owner AND delete_time IS NULL LIMIT 10"


class Operations:
    """All operations on one record.

    Args:
        database: Over which they go.
        stage: Over which goes what makes ready for them.
        sample: What they are about.
    """

    def __init__(self, database: Database, *, stage: Database, sample: Sample) -> None:
        self._sample = sample
        self._adoption = Adoption(database)
        self._attempts = Attempts(database)
        self._generations = Generations(database)
        self._listing = Listing(database)
        self._models = Models(database)
        self._queue = Queue(database)
        self._removal = Removal(database)
        self._stage = stage
        self._staged_attempts = Attempts(stage)
        self._staged_generations = Generations(stage)
        self._staged_queue = Queue(stage)
        self._count = 0

    def all(self) -> Mapping[str, Prepare]:
        """Name each by its class and method, and by what it is asked where that matters."""
        return {
            "Adoption.wants": self._wants,
            "Adoption.adopt": self._adopt,
            "Adoption.put_down": self._put_down,
            "Attempts.claim": self._claim,
            "Attempts.claim: held": self._claim_what_is_held,
            "Attempts.renew": self._renew,
            "Attempts.release": self._release,
            "Attempts.succeed": self._succeed,
            "Attempts.fail": self._fail,
            "Attempts.save_progress": self._save_progress,
            "Attempts.get_overdue": self._get_overdue,
            "Attempts.requeue_lost": self._requeue_lost,
            "Attempts.expire": self._expire,
            "Attempts.get_time": self._get_time,
            "Generations.create_generations": self._create,
            "Generations.find_requests": self._find_requests,
            "Generations.get_generation": self._get_generation,
            "Generations.get_history": self._get_history,
            "Generations.get_revisions": self._get_revisions,
            "Generations.cancel_generation": self._cancel,
            **{
                f"Listing.list_generations: {name}": partial(self._list, which) for name, which in self._filters.items()
            },
            "Listing.list_generations: of the quiet owner": partial(self._list, Filter(), owner=QUIET),
            "Listing.list_attempts": self._list_attempts,
            "Models.report": self._report,
            "Models.forget_worker": self._forget_worker,
            "Models.forget_silent_workers": self._forget_silent_workers,
            "Models.list_models": self._list_models,
            "Queue.count_live": self._count_live,
            "Queue.get_queue_position: first": partial(self._get_queue_position, 0),
            "Queue.get_queue_position: last": partial(self._get_queue_position, -1),
            "Queue.mark_dispatched": self._mark_dispatched,
            "Queue.unmark_dispatched": self._unmark_dispatched,
            "Queue.get_dispatched": self._get_dispatched,
            "Removal.delete_generation": self._delete,
            "Removal.schedule": self._schedule,
            "Removal.purge": self._purge,
            "Removal.get_due_prefixes": self._get_due_prefixes,
            "Removal.confirm_removed": self._confirm_removed,
        }

    @property
    def _filters(self) -> Mapping[str, Filter]:
        return {
            "all": Filter(),
            "one state": Filter(states=[State.FAILED]),
            "two states": Filter(states=[State.QUEUED, State.RUNNING]),
            "a model": Filter(models=[MODELS[1]]),
            "no such model": Filter(models=["none"]),
            "a reason": Filter(failure_reasons=[FAILURE["reason"]]),
            "no such reason": Filter(failure_reasons=["FAILURE_REASON_STORAGE"]),
            "a common label": Filter(labels={"team": "team-3"}),
            "a rare label": Filter(labels={"job": "7"}),
            "no such label": Filter(labels={"job": "none"}),
            "an hour": Filter(created_after=datetime.now(UTC) - timedelta(hours=1)),
        }

    # What workers ask for.

    async def _claim(self) -> Call:
        generation = await self._new()
        return lambda: _claim(self._attempts, generation.id)

    async def _claim_what_is_held(self) -> Call:
        attempt = await self._claimed()
        return lambda: _claim(self._attempts, attempt.generation_id)

    async def _renew(self) -> Call:
        attempts = await self._claimed_ones(HELD)
        return lambda: self._attempts.renew(attempts, lease=LEASE)

    async def _release(self) -> Call:
        attempts = await self._claimed_ones(HELD)
        return lambda: self._attempts.release(attempts)

    async def _succeed(self) -> Call:
        attempt = await self._claimed()
        return lambda: self._attempts.succeed(attempt, images=IMAGES, phase_times={})

    async def _fail(self) -> Call:
        attempt = await self._claimed()
        return lambda: self._attempts.fail(attempt, failure=FAILURE, policy=POLICY)

    async def _save_progress(self) -> Call:
        attempts = await self._claimed_ones(HELD)
        return lambda: self._attempts.save_progress([(attempt, 1, {"step": 1}) for attempt in attempts])

    async def _wants(self) -> Call:
        attempt = _forgotten(await self._new())
        return lambda: self._adoption.wants(attempt)

    async def _adopt(self) -> Call:
        attempt = _forgotten(await self._new())
        return lambda: self._adoption.adopt(attempt, images=IMAGES, phase_times={})

    async def _put_down(self) -> Call:
        attempt = _forgotten(await self._cancelled(retention=None))
        return lambda: self._adoption.put_down(attempt)

    # What the sweep does.

    async def _get_overdue(self) -> Call:
        now = await self._staged_attempts.get_time()
        await self._staged_attempts.requeue_lost(overdue_before=now, policy=POLICY)
        await self._claimed_ones(FOUND, lease=PAST)
        now = await self._staged_attempts.get_time()
        return lambda: self._attempts.get_overdue(overdue_before=now)

    async def _requeue_lost(self) -> Call:
        lost = await self._claimed_ones(FOUND, lease=PAST)
        now = await self._staged_attempts.get_time()
        among = [attempt.generation_id for attempt in lost]
        return lambda: self._attempts.requeue_lost(overdue_before=now, policy=POLICY, among=among)

    async def _expire(self) -> Call:
        late = [generation.id for generation in await self._new_ones(FOUND, timeout=PAST)]
        now = await self._staged_attempts.get_time()
        return lambda: self._attempts.expire(overdue_before=now, among=late)

    async def _get_time(self) -> Call:
        return self._attempts.get_time

    # What clients ask for.

    async def _create(self) -> Call:
        requests = [self._request() for _ in range(FOUND)]
        return lambda: self._generations.create_generations(requests)

    async def _find_requests(self) -> Call:
        return lambda: self._generations.find_requests(owner=QUIET, request_ids=self._sample.request_ids)

    async def _get_generation(self) -> Call:
        generation_id = self._next_of(self._sample.quiet)
        return lambda: self._generations.get_generation(generation_id, owner=QUIET)

    async def _get_history(self) -> Call:
        generation_id = self._next_of(self._sample.busy)
        return lambda: self._generations.get_history(generation_id, owner=BUSY, after_revision=0)

    async def _get_revisions(self) -> Call:
        return lambda: self._generations.get_revisions(self._sample.busy)

    async def _cancel(self) -> Call:
        attempt = await self._claimed()
        return lambda: self._generations.cancel_generation(attempt.generation_id, owner=BUSY)

    async def _list(self, which: Filter, *, owner: str = BUSY) -> Call:
        return lambda: self._listing.list_generations(which, owner=owner, before_id=None, limit=PAGE)

    async def _list_attempts(self) -> Call:
        generation_id = self._next_of(self._sample.quiet)
        return lambda: self._listing.list_attempts(generation_id, owner=QUIET, after=0, limit=PAGE)

    async def _get_queue_position(self, place: int) -> Call:
        return lambda: self._queue.get_queue_position(self._sample.queued[place])

    async def _delete(self) -> Call:
        generation = await self._cancelled(retention=None)
        return lambda: self._removal.delete_generation(generation.id, owner=BUSY, immediately=False)

    # What is known of models and workers.

    async def _report(self) -> Call:
        models = [(MODELS[0], to_json(MODEL))]
        return lambda: self._models.report(worker_id="bench", slots=8, free_slots=1, models=models)

    async def _forget_worker(self) -> Call:
        await (await self._report())()
        return lambda: self._models.forget_worker("bench")

    async def _forget_silent_workers(self) -> Call:
        return lambda: self._models.forget_silent_workers(DAY)

    async def _list_models(self) -> Call:
        return lambda: self._models.list_models(liveness=DAY)

    # What the dispatcher does, and the sweep of hints.

    async def _count_live(self) -> Call:
        return self._queue.count_live

    async def _mark_dispatched(self) -> Call:
        await (await self._unmark_dispatched())()
        return lambda: self._queue.mark_dispatched(liveness=DAY)

    async def _unmark_dispatched(self) -> Call:
        await self._staged_queue.mark_dispatched(liveness=DAY)
        dispatched = (await self._staged_queue.get_dispatched(older_than=timedelta(0)))[MODELS[0]]
        return lambda: self._queue.unmark_dispatched(list(dispatched)[:FOUND])

    async def _get_dispatched(self) -> Call:
        return lambda: self._queue.get_dispatched(older_than=timedelta(0))

    # What goes away.

    async def _schedule(self) -> Call:
        for _ in range(FOUND):
            await self._cancelled(retention=None)
        return lambda: self._removal.schedule(DAY)

    async def _purge(self) -> Call:
        for _ in range(FOUND):
            await self._cancelled(retention=PAST)
        return self._removal.purge

    async def _get_due_prefixes(self) -> Call:
        return lambda: self._removal.get_due_prefixes(backup_age=DAY, limit=FOUND)

    async def _confirm_removed(self) -> Call:
        forgotten = [_forgotten(await self._cancelled(retention=None)) for _ in range(FOUND)]
        for attempt in forgotten:
            await Adoption(self._stage).put_down(attempt)
        prefixes = [attempt.object_prefix for attempt in forgotten]
        return lambda: self._removal.confirm_removed(prefixes, backup_age=timedelta(0))

    # What they need.

    def _request(self, *, timeout: timedelta | None = None) -> NewGeneration:
        return NewGeneration(
            owner=BUSY,
            request_id=uuid.uuid4().hex,
            model=MODELS[0],
            priority=PRIORITY,
            timeout=timeout,
            spec=SPEC,
            resolved_spec=SPEC,
        )

    async def _new_ones(self, count: int, *, timeout: timedelta | None = None) -> list[Generation]:
        requests = [self._request(timeout=timeout) for _ in range(count)]
        created = await self._staged_generations.create_generations(requests)
        return [one for one in created if one is not None]

    async def _new(self) -> Generation:
        (created,) = await self._new_ones(1)
        return created

    async def _cancelled(self, *, retention: timedelta | None) -> Generation:
        generation = await self._new()
        await Generations(self._stage, retention=retention).cancel_generation(generation.id, owner=BUSY)
        return generation

    async def _claimed_ones(self, count: int, *, lease: timedelta = LEASE) -> list[Attempt]:
        waiting = await self._new_ones(count)
        return [_attempt(await _claim(self._staged_attempts, one.id, lease=lease)) for one in waiting]

    async def _claimed(self) -> Attempt:
        (attempt,) = await self._claimed_ones(1)
        return attempt

    def _next_of(self, ids: Sequence[str]) -> str:
        self._count += 1
        return ids[self._count % len(ids)]


async def _claim(attempts: Attempts, generation_id: str, *, lease: timedelta = LEASE) -> Any:
    claim_id = uuid.uuid4().hex
    return await attempts.claim(generation_id, claim_id=claim_id, worker_id="bench", nonce="bench", lease=lease)


def _attempt(grant: Any) -> Attempt:
    if not isinstance(grant, Grant):
        raise TypeError(f"a claim was not granted: {grant}")
    return Attempt(generation_id=grant.generation_id, number=grant.attempt)


def _forgotten(generation: Generation) -> ForgottenAttempt:
    return ForgottenAttempt(
        generation_id=generation.id,
        number=1,
        worker_id="bench",
        claim_id=uuid.uuid4().hex,
        object_prefix=f"results/{generation.id}/1-bench/",
    )

"""Acceptance: a request becomes a durable generation, once."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from easel import crash, tracing
from easel.crash import CrashPoint
from easel.logs import annotate
from easel.v1.generation_pb2 import GenerationSpec
from gateway.errors import BacklogFull, DatabaseUnavailable, GenerationDeleted, RequestIdConflict
from gateway.group_commit import GroupCommit
from gateway.metrics import Metrics
from gateway.record.documents import to_json
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.queue import Queue


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as the client sent it."""

    owner: str
    #: Empty when the client gave none.
    request_id: str
    spec: GenerationSpec
    #: The generation that it retries.
    retried_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedRequest(Request):
    """A request with nothing wrong and nothing left open."""

    resolved_spec: GenerationSpec


class Backlog:
    """How many generations wait for each model, as of the last count: admission must not cost a count each time."""

    def __init__(self, queue: Queue, *, limit: int, metrics: Metrics) -> None:
        self._queue = queue
        self._limit = limit
        self._metrics = metrics
        self._waiting: dict[str, int] = {}

    async def count(self, models: Mapping[str, object]) -> None:
        """Count again, and show the counts of the known models."""
        counts = await self._queue.count_live()
        self._waiting = {one.model: one.count for one in counts if one.state == State.QUEUED}
        self._metrics.show_backlog(models, counts)

    def admit(self, models: Mapping[str, int]) -> None:
        """Count more in: so many for each of these models, or none at all.

        Raises:
            BacklogFull: there is no room for them.
        """
        for model, wanted in models.items():
            waiting = self._waiting.get(model, 0)
            if waiting + wanted > self._limit:
                raise BacklogFull(model, backlog=waiting, wanted=wanted)
        for model, wanted in models.items():
            self._waiting[model] = self._waiting.get(model, 0) + wanted


class Acceptance:
    """Accepts requests."""

    def __init__(
        self,
        generations: Generations,
        group_commit: GroupCommit,
        backlog: Backlog,
        *,
        nudge_dispatch: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._generations = generations
        self._group_commit = group_commit
        self._backlog = backlog
        self._nudge_dispatch = nudge_dispatch
        self._metrics = metrics

    async def find_generation(self, request: Request) -> Generation | None:
        """Find what a request made when it was sent before.

        Raises:
            RequestIdConflict: the request_id was used with another spec.
            GenerationDeleted: what it made was deleted.
        """
        (found,) = await _find(self._generations, [request])
        return found

    async def find_retry(self, *, owner: str, request_id: str, retried_from: str) -> Generation | None:
        """Find what a retry made when it was asked for before."""
        found = await self._generations.find_requests(owner=owner, request_ids=[request_id])
        retry = found.get(request_id)
        is_it = retry is not None and retry.retried_from == retried_from and retry.delete_time is None
        return retry if is_it else None

    async def create_generation(self, request: CheckedRequest) -> Generation:
        """Store a checked request and return its generation, durable; or the one its request_id made before.

        Raises:
            RequestIdConflict: the request_id was used with another spec.
            GenerationDeleted: what it made was deleted.
            BacklogFull: as many generations wait for the model as may.
        """
        found = await self._admit([request])
        if found is not None:
            return found[0]
        created = await self._group_commit.create_generation(_to_record(request))
        if created is not None:
            return self._accepted(created)
        (original,) = await _originals(self._generations, [request])
        return original

    async def create_generations(self, requests: Sequence[CheckedRequest]) -> list[Generation]:
        """Store checked requests in one transaction, all of them or none.

        Raises:
            RequestIdConflict, GenerationDeleted: of one of them; none was stored.
            BacklogFull: there is no room for all of them.
        """
        found = await self._admit(requests)
        if found is not None:
            return found
        async with self._generations.transaction() as generations:
            created = await generations.create_generations([_to_record(request) for request in requests])
            taken = [request for request, one in zip(requests, created, strict=True) if one is None]
            found_again = iter(await _originals(generations, taken))
            originals = [next(found_again) if one is None else one for one in created]
            crash.reach(CrashPoint.BEFORE_COMMIT)
        for one in created:
            if one is not None:
                self._accepted(one)
        return originals

    async def _admit(self, requests: Sequence[CheckedRequest]) -> list[Generation] | None:
        """Count requests in; where there is no room, return what they made before."""
        try:
            self._backlog.admit(Counter(request.resolved_spec.model for request in requests))
        except BacklogFull:
            # What was accepted before is not refused now.
            originals = [one for one in await _find(self._generations, requests) if one is not None]
            if len(originals) < len(requests):
                raise
            return originals
        return None

    def _accepted(self, generation: Generation) -> Generation:
        crash.reach(CrashPoint.AFTER_COMMIT)
        annotate(generation_id=generation.id)
        tracing.annotate(generation_id=generation.id)
        logger.info("accepted", action="accept", model=generation.model)
        self._metrics.accepted.labels(model=generation.model).inc()
        self._nudge_dispatch()
        return generation


def _to_record(request: CheckedRequest) -> NewGeneration:
    return NewGeneration(
        owner=request.owner,
        request_id=request.request_id or None,
        model=request.resolved_spec.model,
        priority=request.spec.priority,
        timeout=request.spec.timeout.ToTimedelta() if request.spec.HasField("timeout") else None,
        spec=request.spec,
        resolved_spec=request.resolved_spec,
        retried_from=request.retried_from,
        trace_parent=tracing.current(),
    )


async def _find(generations: Generations, requests: Sequence[Request]) -> list[Generation | None]:
    """Find what requests of one owner made before; None for those that made nothing."""
    request_ids = [request.request_id for request in requests if request.request_id]
    if not request_ids:
        return [None] * len(requests)
    found = await generations.find_requests(owner=requests[0].owner, request_ids=request_ids)
    return [_same(found[request.request_id], request) if request.request_id in found else None for request in requests]


async def _originals(generations: Generations, requests: Sequence[Request]) -> list[Generation]:
    """Find what has the request_ids of requests already."""
    found = [one for one in await _find(generations, requests) if one is not None]
    if len(found) < len(requests):
        # The retention of one ended just now: asked again, the request makes a new one.
        raise DatabaseUnavailable
    if len(found) == 1:
        annotate(generation_id=found[0].id)
    return found


def _same(found: Generation, request: Request) -> Generation:
    """Return the generation that a request_id made, if it was made of the same request."""
    if found.delete_time is not None:
        raise GenerationDeleted(request.request_id, generation_id=found.id)
    differing = differing_fields(to_json(found.spec), to_json(request.spec))
    if found.retried_from != request.retried_from:
        differing.append("retried_from")
    if differing:
        raise RequestIdConflict(request.request_id, generation_id=found.id, fields=differing)
    return found


def differing_fields(one: Mapping[str, Any], other: Mapping[str, Any], *, prefix: str = "spec") -> list[str]:
    """Name the fields in which two documents differ, by their paths."""
    differing: list[str] = []
    for name in sorted(one.keys() | other.keys()):
        mine, theirs, path = one.get(name), other.get(name), f"{prefix}.{name}"
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            differing += differing_fields(mine, theirs, prefix=path)
        elif mine != theirs:
            differing.append(path)
    return differing

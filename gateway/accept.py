"""Acceptance: a request becomes a durable generation, once."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from loguru import logger

from easel.logs import annotate
from easel.v1.generation_pb2 import GenerationSpec
from gateway.errors import BacklogFull, RequestIdConflict
from gateway.record.documents import to_json
from gateway.record.generation import Generation
from gateway.record.generations import Generations


class Backlog:
    """How many generations wait for each model, as of the last count: admission must not cost a count each time."""

    def __init__(self, generations: Generations, *, limit: int) -> None:
        self._generations = generations
        self._limit = limit
        self._waiting: dict[str, int] = {}

    async def count(self, models: Mapping[str, object]) -> None:
        """Count again."""
        self._waiting = {model: await self._generations.count_backlog(model, limit=self._limit) for model in models}

    def admit(self, model: str) -> None:
        """Count one more in.

        Raises:
            BacklogFull: as many wait as may.
        """
        waiting = self._waiting.get(model, 0)
        if waiting >= self._limit:
            raise BacklogFull(model, backlog=waiting)
        self._waiting[model] = waiting + 1


class Acceptance:
    """Accepts requests."""

    def __init__(self, generations: Generations, backlog: Backlog, *, nudge_dispatch: Callable[[], None]) -> None:
        self._generations = generations
        self._backlog = backlog
        self._nudge_dispatch = nudge_dispatch

    async def find_generation(self, *, owner: str, request_id: str, spec: GenerationSpec) -> Generation | None:
        """Find what a request made when it was sent before.

        Raises:
            RequestIdConflict: the request_id was used with another spec.
        """
        found = await self._generations.find_request(owner=owner, request_id=request_id) if request_id else None
        return None if found is None else _same(found, to_json(spec))

    async def create_generation(
        self, *, owner: str, request_id: str, spec: GenerationSpec, resolved_spec: GenerationSpec
    ) -> Generation:
        """Store a checked request and return its generation, durable; or the one its request_id made before.

        Raises:
            RequestIdConflict: the request_id was used with another spec.
            BacklogFull: as many generations wait for the model as may.
        """
        try:
            self._backlog.admit(resolved_spec.model)
        except BacklogFull:
            # What was accepted before is not refused now.
            found = await self.find_generation(owner=owner, request_id=request_id, spec=spec)
            if found is None:
                raise
            return found
        as_sent = to_json(spec)
        generation, created = await self._generations.create_generation(
            owner=owner,
            request_id=request_id or None,
            model=resolved_spec.model,
            priority=spec.priority,
            timeout=_timeout(spec),
            spec=as_sent,
            resolved_spec=to_json(resolved_spec),
        )
        annotate(generation_id=generation.id)
        if not created:
            return _same(generation, as_sent)
        logger.info("accepted", action="accept", model=generation.model)
        self._nudge_dispatch()
        return generation


def _same(generation: Generation, as_sent: Mapping[str, Any]) -> Generation:
    """Return the generation that a request_id made, if it was made of the same spec."""
    differing = differing_fields(generation.spec, as_sent)
    if differing:
        raise RequestIdConflict(generation.request_id or "", generation_id=generation.id, fields=differing)
    return generation


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


def _timeout(spec: GenerationSpec) -> timedelta | None:
    return spec.timeout.ToTimedelta() if spec.HasField("timeout") else None

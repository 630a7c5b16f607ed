"""The models and workers in the record: what was reported, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from gateway.record.database import Database
from gateway.record.documents import Json


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that some worker has reported."""

    name: str
    model: Json
    last_seen_time: datetime
    live_workers: int


class Models:
    """The models and workers in the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, *, worker_id: str, slots: int, free_slots: int, models: Sequence[tuple[str, Json]]) -> None:
        """Store what a worker says of itself: it lives, and serves these models (name, easel.v1.Model)."""
        parameters = {
            "worker_id": worker_id,
            "slots": slots,
            "free_slots": free_slots,
            "names": [name for name, _ in models],
            "models": [json.dumps(model) for _, model in models],
        }
        await self._database.execute(_REPORT, parameters)

    async def forget_worker(self, worker_id: str) -> None:
        """Take note that a worker goes away; its models stay known."""
        await self._database.execute(_FORGET, {"worker_id": worker_id})

    async def forget_silent_workers(self, silence: timedelta) -> None:
        """Forget the workers that were not heard of for so long."""
        await self._database.execute(_FORGET_SILENT, {"silence": silence})

    async def list_models(self, *, liveness: timedelta) -> list[KnownModel]:
        """Read every known model, by name, with its workers heard of within `liveness`."""
        rows = await self._database.execute(_LIST, {"liveness": liveness})
        return [KnownModel(**row) for row in rows.mappings()]


_REPORT = text("""
    WITH reported AS (
        SELECT name, model FROM unnest(CAST(:names AS text[]), CAST(:models AS text[])) AS reported (name, model)
    ), known AS (
        INSERT INTO models (name, model) SELECT name, CAST(model AS jsonb) FROM reported ORDER BY name
        ON CONFLICT (name) DO UPDATE SET model = excluded.model, last_seen_time = now()
        RETURNING name
    )
    INSERT INTO workers (worker_id, model, slots, free_slots)
    SELECT :worker_id, name, :slots, :free_slots FROM known
    ON CONFLICT (worker_id, model)
    DO UPDATE SET slots = excluded.slots, free_slots = excluded.free_slots, last_seen_time = now()
""")

_FORGET = text("DELETE FROM workers WHERE worker_id = :worker_id")

_FORGET_SILENT = text("DELETE FROM workers WHERE last_seen_time < now() - CAST(:silence AS interval)")

_LIST = text("""
    SELECT models.name, models.model, models.last_seen_time, count(workers.worker_id) AS live_workers
    FROM models LEFT JOIN workers
      ON workers.model = models.name AND workers.last_seen_time > now() - CAST(:liveness AS interval)
    GROUP BY models.name ORDER BY models.name
""")

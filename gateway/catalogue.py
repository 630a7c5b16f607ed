"""The models this gateway knows, kept at hand so that bad requests are refused without touching the database."""

from collections.abc import Mapping
from datetime import timedelta

from easel.v1.model_pb2 import Model
from gateway.record.documents import from_json
from gateway.record.models import KnownModel, Models


class Catalogue:
    """A copy of the record's models, refreshed on a schedule and when a request names one that is not in it."""

    def __init__(self, models: Models, *, liveness: timedelta) -> None:
        self._record = models
        self._liveness = liveness
        self._models: dict[str, Model] = {}

    @property
    def models(self) -> Mapping[str, Model]:
        """The known models by name, as of the last refresh."""
        return self._models

    async def refresh(self) -> None:
        """Read the record again."""
        known = await self._record.list_models(liveness=self._liveness)
        self._models = {one.name: _to_model(one) for one in known}

    async def including(self, name: str) -> Mapping[str, Model]:
        """The known models; read again first if there is none of this name, since it may be new."""
        if name not in self._models and (name or len(self._models) != 1):
            await self.refresh()
        return self._models


def _to_model(known: KnownModel) -> Model:
    model = from_json(known.model, Model())
    model.name = known.name
    model.live_workers = known.live_workers
    model.last_seen_time.FromDatetime(known.last_seen_time)
    return model

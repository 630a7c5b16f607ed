"""Recall: finds on the stream of results what the record has forgotten, since it was restored from a backup.

The stream keeps results for days after they were committed. A record of yesterday beside it takes for unfinished what
was finished since; before such a generation is drawn once more, or judged, its results are committed once more.
"""

from collections.abc import AsyncIterator

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from loguru import logger

from easel import subjects
from easel.bus import Bus, BusUnavailable
from easel.worker.v1.result_pb2 import Result
from gateway.metrics import Metrics
from gateway.results import Results, read_result


class Recall:
    """Gives a record back what it has forgotten; one that has forgotten nothing is told nothing new."""

    def __init__(self, bus: Bus, results: Results, *, metrics: Metrics) -> None:
        self._bus = bus
        self._results = results
        self._metrics = metrics

    async def recall(self, generation_id: str) -> None:
        """Commit what the stream has of a generation, in the order in which it was handed in, until it is final.

        Raises:
            BusUnavailable, DatabaseUnavailable, StorageUnavailable: it is not known whether there is anything.
        """
        async for result in self._handed_in(generation_id):
            change = await self._results.commit(result, again=True)
            if change is None:
                continue
            self._metrics.recalled.inc()
            logger.warning("recalled a result: it is {}", change.state, action="recall", generation_id=generation_id)
            if change.state.is_final:
                return

    async def _handed_in(self, generation_id: str) -> AsyncIterator[Result]:
        subject, sequence = subjects.result(generation_id), 1
        while True:
            try:
                found = await self._bus.jetstream.get_msg(
                    subjects.RESULTS_STREAM, seq=sequence, subject=subject, next=True
                )
            except nats.js.errors.NotFoundError:
                return
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                raise BusUnavailable(f"cannot look for results: {error!r}") from error
            sequence = (found.seq or sequence) + 1
            try:
                result = read_result(found.data or b"")
            except (DecodeError, ValueError):
                continue  # the projection has told of it
            yield result

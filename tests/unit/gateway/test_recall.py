"""Recalling what a record has forgotten: which results are committed once more, and when nobody can tell."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import nats.errors
import nats.js.errors
import pytest
from prometheus_client import CollectorRegistry

from easel import subjects
from easel.bus import BusUnavailable
from easel.v1.generation_pb2 import Failure
from easel.worker.v1.result_pb2 import Result, Success
from gateway.metrics import Metrics
from gateway.recall import Recall
from gateway.record.generation import Change, State

ID = "0199a3c0-0000-7000-8000-000000000000"

failure = Result(generation_id=ID, attempt=1, failure=Failure(message="no"))
success = Result(generation_id=ID, attempt=2, success=Success())
late = Result(generation_id=ID, attempt=3, success=Success())


class Stream:
    """A stream of results with those of one generation at every other place."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages = {2 * index + 1: data for index, data in enumerate(messages)}
        self.error: Exception = nats.js.errors.NotFoundError()

    async def get_msg(self, stream: str, *, seq: int, subject: str, next: bool) -> Any:  # noqa: A002
        assert (stream, subject, next) == (subjects.RESULTS_STREAM, subjects.result(ID), True)
        found = [sequence for sequence in self._messages if sequence >= seq]
        if not found:
            raise self.error
        return SimpleNamespace(seq=found[0], data=self._messages[found[0]])


def change(state: State) -> Change:
    return Change(generation_id=ID, revision=3, state=state, model="tiny")


async def recalled(stream: Stream, results: AsyncMock, metrics: Metrics) -> list[Result]:
    await Recall(Mock(jetstream=stream), results, metrics=metrics).recall(ID)
    assert all(call.kwargs == {"again": True} for call in results.commit.await_args_list)
    return [call.args[0] for call in results.commit.await_args_list]


async def test_results_are_committed_in_order_until_the_end(metrics: Metrics, registry: CollectorRegistry) -> None:
    results = AsyncMock()
    results.commit.side_effect = [change(State.QUEUED), change(State.SUCCEEDED)]
    stream = Stream([one.SerializeToString() for one in (failure, success, late)])
    assert await recalled(stream, results, metrics) == [failure, success]
    assert registry.get_sample_value("easel_recalled_total") == 2


async def test_a_record_that_has_forgotten_nothing_is_told_nothing_new(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    results = AsyncMock()
    results.commit.return_value = None
    stream = Stream([failure.SerializeToString(), b"\xff", b"", success.SerializeToString()])
    assert await recalled(stream, results, metrics) == [failure, success]
    assert registry.get_sample_value("easel_recalled_total") == 0


async def test_nothing_is_there_to_be_recalled(metrics: Metrics) -> None:
    assert await recalled(Stream([]), AsyncMock(), metrics) == []


@pytest.mark.parametrize(
    "error", [nats.errors.TimeoutError(), nats.errors.NoRespondersError(), nats.js.errors.ServiceUnavailableError()]
)
async def test_a_stream_that_cannot_be_read_leaves_it_open(metrics: Metrics, error: Exception) -> None:
    stream = Stream([])
    stream.error = error
    with pytest.raises(BusUnavailable):
        await recalled(stream, AsyncMock(), metrics)

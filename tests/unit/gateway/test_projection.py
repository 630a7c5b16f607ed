"""The projection's hold on its queue."""

import asyncio
from unittest.mock import AsyncMock, Mock

import nats.errors
import pytest
from prometheus_client import CollectorRegistry

from easel.bus import BusUnavailable
from easel.v1.generation_pb2 import Failure
from easel.worker.v1.result_pb2 import Result, Success
from gateway.bucket import StorageUnavailable
from gateway.errors import DatabaseUnavailable
from gateway.metrics import Metrics
from gateway.projection import CONCURRENCY, Projection
from gateway.record.generation import Change, State

GENERATION = "0199a3c0-0000-7000-8000-000000000000"


@pytest.fixture
def subscription() -> AsyncMock:
    return AsyncMock()


@pytest.fixture
def results() -> AsyncMock:
    return AsyncMock()


@pytest.fixture
def projection(subscription: AsyncMock, results: AsyncMock, metrics: Metrics) -> Projection:
    bus = AsyncMock()
    bus.jetstream = Mock(pull_subscribe_bind=AsyncMock(return_value=subscription))
    return Projection(bus, AsyncMock(), results, metrics=metrics)


def message(result: Result) -> AsyncMock:
    return AsyncMock(data=result.SerializeToString(), headers=None)


def change(state: State) -> Change:
    return Change(generation_id=GENERATION, revision=3, state=state, model="tiny")


async def test_a_subscription_that_failed_is_ended_and_not_only_forgotten(
    projection: Projection, subscription: AsyncMock
) -> None:
    subscription.fetch.side_effect = nats.errors.ConnectionClosedError
    with pytest.raises(BusUnavailable):
        await projection.project()
    subscription.unsubscribe.assert_awaited_once()


async def test_results_are_counted_by_what_they_came_to(
    projection: Projection, subscription: AsyncMock, results: AsyncMock, registry: CollectorRegistry
) -> None:
    success = message(Result(generation_id=GENERATION, success=Success()))
    failure = message(Result(generation_id=GENERATION, failure=Failure()))
    subscription.fetch.return_value = [success, success, failure, failure, failure]
    changes = [State.SUCCEEDED, None, State.FAILED, State.QUEUED, None]
    results.commit.side_effect = [None if state is None else change(state) for state in changes]
    await projection.project()
    counts = {
        outcome: registry.get_sample_value("easel_results_total", {"outcome": outcome})
        for outcome in ("succeeded", "failed", "late")
    }
    assert counts == {"succeeded": 1, "failed": 2, "late": 2}


async def test_unreadable_results_are_counted(
    projection: Projection, subscription: AsyncMock, registry: CollectorRegistry
) -> None:
    subscription.fetch.return_value = [AsyncMock(data=b"\xff"), message(Result(generation_id="none"))]
    await projection.project()
    assert registry.get_sample_value("easel_unreadable_messages_total") == 2


async def test_what_waits_for_the_storage_is_put_back_and_keeps_nobody(
    projection: Projection, subscription: AsyncMock, results: AsyncMock, registry: CollectorRegistry
) -> None:
    waiting, other = (message(Result(generation_id=GENERATION, success=Success())) for _ in range(2))
    subscription.fetch.return_value = [waiting, other]
    results.commit.side_effect = [StorageUnavailable("out of reach"), change(State.SUCCEEDED)]
    await projection.project()
    assert (waiting.nak.await_count, waiting.ack_sync.await_count) == (1, 0)
    assert (other.nak.await_count, other.ack_sync.await_count) == (0, 1)
    assert registry.get_sample_value("easel_unreadable_messages_total") == 0


@pytest.fixture
def unreadable(subscription: AsyncMock) -> list[AsyncMock]:
    messages = [AsyncMock(data=b"\xff") for _ in range(CONCURRENCY + 2)]
    subscription.fetch.return_value = messages
    return messages


async def test_what_was_fetched_and_not_taken_is_put_back_on_an_outage(
    projection: Projection, unreadable: list[AsyncMock]
) -> None:
    projection._database.execute.side_effect = DatabaseUnavailable  # type: ignore[attr-defined]
    with pytest.raises(DatabaseUnavailable):
        await projection.project()
    assert [message.nak.await_count for message in unreadable] == [1] * len(unreadable)


async def test_one_that_was_taken_does_not_keep_the_others_from_being_put_back(
    projection: Projection, unreadable: list[AsyncMock]
) -> None:
    projection._database.execute.side_effect = [None, DatabaseUnavailable, None, None]  # type: ignore[attr-defined]
    unreadable[0].nak.side_effect = nats.errors.MsgAlreadyAckdError
    with pytest.raises(DatabaseUnavailable):
        await projection.project()
    assert [message.nak.await_count for message in unreadable] == [1] * len(unreadable)


async def test_what_was_fetched_and_not_taken_is_put_back_on_a_cancel(
    projection: Projection, unreadable: list[AsyncMock]
) -> None:
    storing = asyncio.Event()

    async def hang(*_: object) -> None:
        storing.set()
        await asyncio.Event().wait()

    projection._database.execute.side_effect = hang  # type: ignore[attr-defined]
    projecting = asyncio.create_task(projection.project())
    await storing.wait()
    projecting.cancel()
    await asyncio.wait([projecting])
    assert projecting.cancelled()
    assert [message.nak.await_count for message in unreadable] == [1] * len(unreadable)

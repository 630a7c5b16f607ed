"""The projection's hold on its queue."""

from unittest.mock import AsyncMock, Mock

import nats.errors
import pytest

from easel.bus import BusUnavailable
from gateway.projection import Projection


def projection_on(subscription: AsyncMock) -> Projection:
    bus = Mock()
    bus.jetstream.pull_subscribe_bind = AsyncMock(return_value=subscription)
    return Projection(bus, AsyncMock(), AsyncMock(), announcements=AsyncMock(), policy=Mock())


async def test_a_subscription_that_failed_is_ended_and_not_only_forgotten() -> None:
    subscription = AsyncMock()
    subscription.fetch.side_effect = nats.errors.ConnectionClosedError
    with pytest.raises(BusUnavailable):
        await projection_on(subscription).project()
    subscription.unsubscribe.assert_awaited_once()


async def test_what_was_fetched_and_not_taken_is_put_back_also_on_a_cancel() -> None:
    subscription, messages = AsyncMock(), [AsyncMock(data=b"\xff") for _ in range(3)]
    subscription.fetch.return_value = messages
    projection = projection_on(subscription)
    projection._database.execute.side_effect = KeyboardInterrupt  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        await projection.project()
    assert [message.nak.await_count for message in messages] == [1, 1, 1]

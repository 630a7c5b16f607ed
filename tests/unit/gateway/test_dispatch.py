"""Dispatch when NATS is away or refuses."""

from collections.abc import Sequence
from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest
from prometheus_client import CollectorRegistry

from easel.bus import BusUnavailable
from gateway.dispatch import Dispatcher
from gateway.metrics import Metrics
from gateway.record.queue import DueHint

LIVENESS = timedelta(seconds=30)
AGE = timedelta(seconds=3)


def dispatcher(bus: Mock, queue: AsyncMock, metrics: Metrics) -> Dispatcher:
    return Dispatcher(queue, bus, liveness=LIVENESS, metrics=metrics)


def marked(names: Sequence[str]) -> list[DueHint]:
    return [DueHint(generation_id=name, model="tiny", age=AGE) for name in names]


async def test_marks_first_and_publishes_then(metrics: Metrics) -> None:
    order: list[str] = []
    bus, queue = Mock(connected_seconds=1.0), AsyncMock()

    async def mark(*, liveness: timedelta) -> list[DueHint]:
        order.append("mark")
        return marked("ab")

    async def publish(subject: str, message: object) -> None:
        order.append(subject)

    queue.mark_dispatched, bus.publish = mark, publish
    await dispatcher(bus, queue, metrics).dispatch()
    assert order == ["mark", "easel.tasks.tiny.a", "easel.tasks.tiny.b"]
    queue.unmark_dispatched.assert_not_awaited()


async def test_what_was_not_published_is_marked_no_more(metrics: Metrics, registry: CollectorRegistry) -> None:
    bus, queue = Mock(connected_seconds=1.0), AsyncMock()
    queue.mark_dispatched.return_value = marked("abc")

    async def publish(subject: str, message: object) -> None:
        if subject.endswith("b"):
            raise BusUnavailable("no")

    bus.publish = publish
    with pytest.raises(BusUnavailable, match="1 of 3"):
        await dispatcher(bus, queue, metrics).dispatch()
    queue.unmark_dispatched.assert_awaited_once_with(["b"])
    assert registry.get_sample_value("easel_dispatch_age_seconds_count", {"model": "tiny"}) == 2
    assert registry.get_sample_value("easel_dispatch_age_seconds_sum", {"model": "tiny"}) == 2 * AGE.total_seconds()


async def test_marks_nothing_while_nats_is_away(metrics: Metrics) -> None:
    bus, queue = Mock(connected_seconds=0.0), AsyncMock()
    with pytest.raises(BusUnavailable):
        await dispatcher(bus, queue, metrics).dispatch()
    queue.mark_dispatched.assert_not_awaited()

"""Dispatch when NATS is away or refuses."""

from collections.abc import Sequence
from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest

from easel.bus import BusUnavailable
from gateway.dispatch import Dispatcher
from gateway.record.generation import Change, State

LIVENESS = timedelta(seconds=30)


def dispatcher(bus: Mock, generations: AsyncMock) -> Dispatcher:
    return Dispatcher(generations, bus, liveness=LIVENESS)


def marked(names: Sequence[str]) -> list[Change]:
    return [Change(generation_id=name, revision=1, state=State.QUEUED, model="tiny") for name in names]


async def test_marks_first_and_publishes_then() -> None:
    order: list[str] = []
    bus, generations = Mock(connected_seconds=1.0), AsyncMock()

    async def mark(*, liveness: timedelta) -> list[Change]:
        order.append("mark")
        return marked("ab")

    async def publish(subject: str, message: object) -> None:
        order.append(subject)

    generations.mark_dispatched, bus.publish = mark, publish
    await dispatcher(bus, generations).dispatch()
    assert order == ["mark", "easel.tasks.tiny.a", "easel.tasks.tiny.b"]
    generations.unmark_dispatched.assert_not_awaited()


async def test_what_was_not_published_is_marked_no_more() -> None:
    bus, generations = Mock(connected_seconds=1.0), AsyncMock()
    generations.mark_dispatched.return_value = marked("abc")

    async def publish(subject: str, message: object) -> None:
        if subject.endswith("b"):
            raise BusUnavailable("no")

    bus.publish = publish
    with pytest.raises(BusUnavailable, match="1 of 3"):
        await dispatcher(bus, generations).dispatch()
    generations.unmark_dispatched.assert_awaited_once_with(["b"])


async def test_marks_nothing_while_nats_is_away() -> None:
    bus, generations = Mock(connected_seconds=0.0), AsyncMock()
    with pytest.raises(BusUnavailable):
        await dispatcher(bus, generations).dispatch()
    generations.mark_dispatched.assert_not_awaited()

"""Comparing specs and counting the backlog."""

from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest
from prometheus_client import CollectorRegistry

from easel.v1.generation_pb2 import GenerationSpec
from gateway.accept import Acceptance, Backlog, CheckedRequest, differing_fields
from gateway.errors import BacklogFull
from gateway.metrics import Metrics
from gateway.record.generation import State
from gateway.record.queue import LiveCount


def test_same_documents_do_not_differ() -> None:
    assert differing_fields({"a": 1, "b": {"c": [1]}}, {"b": {"c": [1]}, "a": 1}) == []


def test_differences_are_named_by_path() -> None:
    one = {"prompt": "a", "steps": 4, "output": {"format": "PNG", "quality": 3}, "labels": {"k": "v"}}
    other = {"prompt": "b", "output": {"format": "JPEG", "quality": 3}, "labels": {"k": "v"}, "seed": "1"}
    assert differing_fields(one, other) == ["spec.output.format", "spec.prompt", "spec.seed", "spec.steps"]


async def test_a_full_backlog_refuses_until_counted_again(metrics: Metrics) -> None:
    queue = AsyncMock()
    queue.count_live.return_value = []
    backlog = Backlog(queue, limit=2, metrics=metrics)
    backlog.admit({"tiny": 1})
    backlog.admit({"tiny": 1})
    with pytest.raises(BacklogFull):
        backlog.admit({"tiny": 1})
    backlog.admit({"other": 1})
    await backlog.count({"tiny": None})
    backlog.admit({"tiny": 1})


async def test_only_what_waits_is_in_the_backlog_and_every_known_model_is_shown(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    queue = AsyncMock()
    hour = timedelta(hours=1)
    queue.count_live.return_value = [
        LiveCount(model="tiny", state=State.QUEUED, count=1, oldest=hour),
        LiveCount(model="tiny", state=State.RUNNING, count=5, oldest=2 * hour),
    ]
    backlog = Backlog(queue, limit=2, metrics=metrics)
    await backlog.count({"tiny": None, "idle": None})
    backlog.admit({"tiny": 1})
    with pytest.raises(BacklogFull):
        backlog.admit({"tiny": 1})

    def shown(model: str) -> list[float | None]:
        of_states = [
            registry.get_sample_value("easel_backlog", {"model": model, "state": state})
            for state in ("QUEUED", "RUNNING")
        ]
        return [*of_states, registry.get_sample_value("easel_backlog_oldest_seconds", {"model": model})]

    assert shown("tiny") == [1, 5, hour.total_seconds()]
    assert shown("idle") == [0, 0, 0]
    queue.count_live.return_value = []
    await backlog.count({"tiny": None, "idle": None})
    assert shown("tiny") == [0, 0, 0]


async def test_a_batch_is_counted_in_as_a_whole_or_not_at_all(metrics: Metrics) -> None:
    backlog = Backlog(AsyncMock(), limit=3, metrics=metrics)
    with pytest.raises(BacklogFull, match="0 generations wait for model other, and 4 more"):
        backlog.admit({"tiny": 3, "other": 4})
    backlog.admit({"tiny": 3, "other": 2})
    with pytest.raises(BacklogFull):
        backlog.admit({"tiny": 1})


async def test_a_batch_without_room_is_refused_after_one_look_at_the_record(metrics: Metrics) -> None:
    generations = AsyncMock()
    generations.find_requests.return_value = {}
    backlog = Backlog(AsyncMock(), limit=50, metrics=metrics)
    acceptance = Acceptance(generations, AsyncMock(), backlog, nudge_dispatch=Mock(), metrics=metrics)
    spec = GenerationSpec(model="tiny")
    batch = [
        CheckedRequest(owner="default", request_id=str(number), spec=spec, resolved_spec=spec) for number in range(100)
    ]
    with pytest.raises(BacklogFull):
        await acceptance.create_generations(batch)
    generations.find_requests.assert_awaited_once()

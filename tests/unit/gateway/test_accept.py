"""Comparing specs and counting the backlog."""

from unittest.mock import AsyncMock

import pytest

from gateway.accept import Backlog, differing_fields
from gateway.errors import BacklogFull


def test_same_documents_do_not_differ() -> None:
    assert differing_fields({"a": 1, "b": {"c": [1]}}, {"b": {"c": [1]}, "a": 1}) == []


def test_differences_are_named_by_path() -> None:
    one = {"prompt": "a", "steps": 4, "output": {"format": "PNG", "quality": 3}, "labels": {"k": "v"}}
    other = {"prompt": "b", "output": {"format": "JPEG", "quality": 3}, "labels": {"k": "v"}, "seed": "1"}
    assert differing_fields(one, other) == ["spec.output.format", "spec.prompt", "spec.seed", "spec.steps"]


async def test_a_full_backlog_refuses_until_counted_again() -> None:
    generations = AsyncMock()
    generations.count_backlog.return_value = 0
    backlog = Backlog(generations, limit=2)
    backlog.admit({"tiny": 1})
    backlog.admit({"tiny": 1})
    with pytest.raises(BacklogFull):
        backlog.admit({"tiny": 1})
    backlog.admit({"other": 1})
    await backlog.count({"tiny": None})
    backlog.admit({"tiny": 1})


async def test_a_batch_is_counted_in_as_a_whole_or_not_at_all() -> None:
    backlog = Backlog(AsyncMock(), limit=3)
    with pytest.raises(BacklogFull, match="0 generations wait for model other, and 4 more"):
        backlog.admit({"tiny": 3, "other": 4})
    backlog.admit({"tiny": 3, "other": 2})
    with pytest.raises(BacklogFull):
        backlog.admit({"tiny": 1})

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
    backlog.admit("tiny")
    backlog.admit("tiny")
    with pytest.raises(BacklogFull):
        backlog.admit("tiny")
    backlog.admit("other")
    await backlog.count({"tiny": None})
    backlog.admit("tiny")

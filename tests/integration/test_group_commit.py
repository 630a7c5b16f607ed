"""Requests that share a commit, on a real record."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import DataError

from easel.v1.generation_pb2 import GenerationSpec
from gateway.group_commit import GroupCommit
from gateway.record.database import Database
from gateway.record.generations import Generations, NewGeneration

TIMEOUT_SECONDS = 10.0


def request(request_id: str | None, *, prompt: str = "a castle") -> NewGeneration:
    spec = GenerationSpec(prompt=prompt)
    return NewGeneration(
        owner="default", request_id=request_id, model="tiny", priority=0, timeout=None, spec=spec, resolved_spec=spec
    )


async def test_each_gets_its_own_in_the_order_of_their_ids(generations: Generations) -> None:
    commits = GroupCommit(generations, timeout_seconds=TIMEOUT_SECONDS)
    prompts = [f"castle {number}" for number in range(40)]
    created = await asyncio.gather(*(commits.create_generation(request(None, prompt=prompt)) for prompt in prompts))
    assert [one.spec.prompt for one in created if one is not None] == prompts
    for one in created:
        assert one is not None
        assert await generations.get_generation(one.id, owner="default") == one
    ids = [one.id for one in created if one is not None]
    assert ids == sorted(ids)


async def test_of_those_with_one_request_id_one_is_stored(generations: Generations) -> None:
    commits = GroupCommit(generations, timeout_seconds=TIMEOUT_SECONDS)
    created = await asyncio.gather(*(commits.create_generation(request("same")) for _ in range(20)))
    (stored,) = [one for one in created if one is not None]
    found = (await generations.find_requests(owner="default", request_ids=["same"])).get("same")
    assert found is not None
    assert found.id == stored.id


async def test_one_that_the_record_refuses_fails_alone(generations: Generations) -> None:
    commits = GroupCommit(generations, timeout_seconds=TIMEOUT_SECONDS)
    prompts = ["a", "b", "a NUL \0", "c"]
    created = await asyncio.gather(
        *(commits.create_generation(request(None, prompt=prompt)) for prompt in prompts), return_exceptions=True
    )
    assert isinstance(created.pop(2), DataError)
    assert [one.spec.prompt for one in created if not isinstance(one, BaseException) and one] == ["a", "b", "c"]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
async def test_gateways_that_store_the_same_ids_in_any_order_do_not_block_one_another(
    generations: Generations, database: Database, order: Sequence[str]
) -> None:
    other = Generations(database)
    for number in range(10):
        one_way = [request(f"{name}-{number}") for name in "abc"]
        another_way = [request(f"{name}-{number}") for name in order]
        stored = await asyncio.gather(generations.create_generations(one_way), other.create_generations(another_way))
        assert sum(one is not None for one in itertools.chain(*stored)) == 3

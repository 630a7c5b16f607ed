"""Lists on the real PostgreSQL: filters, and pages that new generations do not disturb."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from easel.v1.generation_pb2 import GenerationSpec
from gateway.record.attempts import Attempt, Attempts, Grant, RetryPolicy
from gateway.record.database import Database
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations, NewGeneration
from gateway.record.listing import Filter, Listing, _page
from gateway.record.removal import Removal

OWNER = "default"
DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


@pytest.fixture
def listing(database: Database) -> Listing:
    return Listing(database)


async def create(generations: Generations, *, owner: str = OWNER, model: str = "tiny", **spec: Any) -> Generation:
    request = NewGeneration(
        owner=owner,
        request_id=None,
        model=model,
        priority=0,
        timeout=None,
        spec=GenerationSpec(prompt="a castle", **spec),
        resolved_spec=GenerationSpec(prompt="a castle"),
    )
    (created,) = await generations.create_generations([request])
    assert created is not None
    return created


async def fail(attempts: Attempts, generation: Generation, *, reason: str) -> None:
    grant = await attempts.claim(generation.id, claim_id="c", worker_id="w", nonce="n", lease=timedelta(seconds=30))
    assert isinstance(grant, Grant)
    attempt = Attempt(generation_id=generation.id, number=grant.attempt)
    policy = RetryPolicy(max_lost_attempts=1, backoff=timedelta(0))
    await attempts.fail(attempt, failure={"reason": reason, "message": "no"}, policy=policy)


async def ids(listing: Listing, which: Filter, *, before_id: str | None = None, limit: int = 100) -> list[str]:
    found = await listing.list_generations(which, owner=OWNER, before_id=before_id, limit=limit)
    return [generation.id for generation in found]


async def test_newest_first_page_by_page_whatever_comes_in_between(generations: Generations, listing: Listing) -> None:
    created = [(await create(generations)).id for _ in range(5)]
    first = await ids(listing, Filter(), limit=2)
    later = (await create(generations)).id
    second = await ids(listing, Filter(), before_id=first[-1], limit=2)
    third = await ids(listing, Filter(), before_id=second[-1], limit=2)
    assert first + second + third == created[::-1]
    assert (await ids(listing, Filter()))[0] == later


async def test_what_is_listed_is_what_is_read(generations: Generations, listing: Listing) -> None:
    created = await create(generations)
    (listed,) = await listing.list_generations(Filter(), owner=OWNER, before_id=None, limit=1)
    assert listed == await generations.get_generation(created.id, owner=OWNER)


async def test_every_filter_holds(generations: Generations, attempts: Attempts, listing: Listing) -> None:
    plain = await create(generations)
    other = await create(generations, model="other")
    labelled = await create(generations, labels={"team": "art", "run": "7"})
    await create(generations, owner="stranger")
    broken = await create(generations)
    await fail(attempts, broken, reason="FAILURE_REASON_MODEL_ERROR")
    starved = await create(generations)
    await fail(attempts, starved, reason="FAILURE_REASON_OUT_OF_MEMORY")
    last = await attempts.get_time()

    assert await ids(listing, Filter(states=[State.FAILED])) == [starved.id, broken.id]
    assert await ids(listing, Filter(states=[State.FAILED, State.QUEUED], models=["other", "none"])) == [other.id]
    assert await ids(listing, Filter(models=["other", "none", "other"])) == [other.id]
    assert await ids(listing, Filter(states=[State.FAILED, State.QUEUED])) == [
        one.id for one in (starved, broken, labelled, other, plain)
    ]
    reasons = ["FAILURE_REASON_MODEL_ERROR", "FAILURE_REASON_OUT_OF_MEMORY"]
    assert await ids(listing, Filter(failure_reasons=reasons[:1])) == [broken.id]
    assert await ids(listing, Filter(failure_reasons=reasons)) == [starved.id, broken.id]
    assert await ids(listing, Filter(failure_reasons=reasons, states=[State.FAILED])) == [starved.id, broken.id]
    assert await ids(listing, Filter(failure_reasons=reasons, states=[State.QUEUED])) == []
    assert await ids(listing, Filter(labels={"team": "art"})) == [labelled.id]
    assert await ids(listing, Filter(labels={"team": "art", "run": "7"}, models=["tiny"])) == [labelled.id]
    assert await ids(listing, Filter(labels={"team": "art", "run": "8"})) == []
    assert await ids(listing, Filter(created_before=other.create_time)) == [plain.id]
    assert await ids(listing, Filter(created_after=other.create_time, models=["other"])) == [other.id]
    assert await ids(listing, Filter(created_after=last)) == []


async def test_what_is_deleted_is_not_listed(generations: Generations, listing: Listing, database: Database) -> None:
    generation = await create(generations, labels={"team": "art"})
    await generations.cancel_generation(generation.id, owner=OWNER)
    assert await Removal(database).delete_generation(generation.id, owner=OWNER, immediately=False)
    assert await ids(listing, Filter()) == await ids(listing, Filter(labels={"team": "art"})) == []


async def test_any_time_will_do(generations: Generations, listing: Listing) -> None:
    created = await create(generations)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert await ids(listing, Filter(created_after=first, created_before=last)) == [created.id]
    assert await ids(listing, Filter(created_before=first)) == await ids(listing, Filter(created_after=last)) == []


@pytest.fixture
def many(record_url: str) -> Iterator[psycopg.Connection]:
    """So many that it matters how they are looked for."""
    with psycopg.connect(record_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO generations (owner, model, priority, spec, resolved_spec, state, failure)
            SELECT 'default', CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'tiny' END, 0,
                   jsonb_build_object('labels', jsonb_build_object('team', 'art', 'job', n::text)), '{}',
                   CASE WHEN n % 1000 = 1 THEN 'FAILED' ELSE 'CANCELLED' END,
                   CASE WHEN n % 1000 = 1 THEN jsonb_build_object('reason', 'FAILURE_REASON_STORAGE') END
            FROM generate_series(1, 5000) AS n
        """)
        connection.execute("ANALYZE generations")
        yield connection


@pytest.mark.parametrize(
    ("which", "way"),
    [
        (Filter(), "Index Scan Backward using generations_owner"),
        (Filter(labels={"job": "17"}), "Bitmap Index Scan on generations_labels"),
        (Filter(labels={"team": "art"}), "Index Scan Backward using generations_owner"),
        (Filter(labels={"team": "art", "job": "17"}), "Bitmap Index Scan on generations_labels"),
        (Filter(models=["rare"]), "Index Scan Backward using generations_model"),
        (Filter(models=["none"]), "Index Scan Backward using generations_model"),
        (Filter(states=[State.FAILED]), "Index Scan Backward using generations_state"),
        (Filter(states=[State.QUEUED, State.FAILED]), "Index Scan Backward using generations_state"),
        (Filter(failure_reasons=["FAILURE_REASON_STORAGE"]), "Index Scan Backward using generations_failure"),
        (Filter(created_after=datetime.now(UTC) + timedelta(days=1)), "Index Cond: (id >="),
        (Filter(created_before=datetime.now(UTC) - timedelta(days=1)), "Index Cond: (id <"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[7:50],
)
def test_no_list_reads_all_there_is(many: psycopg.Connection, which: Filter, way: str) -> None:
    page = _page(which, owner=OWNER, before_id=None, limit=51)
    assert page is not None
    written = str(page.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))
    plan = "\n".join(line for (line,) in many.execute(f"EXPLAIN {written}".encode()))
    assert way in plan
    assert "Seq Scan" not in plan

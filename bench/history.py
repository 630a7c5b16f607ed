"""A record with a long history, made in bulk: what years leave behind, in a minute.

Five models and two owners. Most generations are final, some of them tombstones; some wait or are drawn.
The quiet owner has the oldest generations and a few of the latest, the busy one all others: reads of the one that pass
over rows of the other stand out. The label `family` goes with the model, which PostgreSQL cannot know: no generation of
one model has that of another, and to find that out takes a look at all of them.

Triggers are off meanwhile and indexes made in the end, so that all comes in bulk.
"""

import json
from collections.abc import Callable

import psycopg
from psycopg import sql

from bench.worker import MODEL
from gateway.record.documents import to_json
from gateway.record.removal import ROWS as REMOVED_AT_ONCE

BUSY, QUIET = "default", "quiet"
MODELS = ("tiny", "small", "medium", "large", "huge")
#: Of all generations.
LIVE_SHARE = 0.03
#: Of those that are live, one in so many is drawn.
RUNNING_ONE_IN = 50
QUIET_ONE_IN = 100
#: Enough for a page.
QUIET_AT_LEAST = 100
#: A month for a million.
SECONDS_APART = 2.6
ROWS_AT_ONCE = 25_000


def fill(
    url: str, *, rows: int, live_share: float = LIVE_SHARE, on_progress: Callable[[int], None] = lambda _: None
) -> None:
    """Fill an empty, migrated record with so many generations, and have its statistics taken.

    Args:
        url: A plain PostgreSQL URL, of a superuser.
        rows: How many generations.
        live_share: How many of them are live.
        on_progress: Called with how many there are by now.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(_MODELS, {"models": list(MODELS), "model": json.dumps(to_json(MODEL))})
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        for first in range(1, rows + 1, ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE - 1, rows)
            parameters = {
                "first": first,
                "last": last,
                "rows": rows,
                "first_live": rows - int(rows * live_share) + 1,
                "running_one_in": RUNNING_ONE_IN,
                "seconds_apart": SECONDS_APART,
                "quiet_one_in": QUIET_ONE_IN,
                "last_quiet": max(QUIET_AT_LEAST, rows // QUIET_ONE_IN),
                "busy": BUSY,
                "quiet": QUIET,
                "models": list(MODELS),
            }
            connection.execute(_GENERATIONS, parameters)
            on_progress(last)
        connection.execute(_DELETIONS, {"due": REMOVED_AT_ONCE})
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM (ANALYZE)")


_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""

_MODELS = """
    WITH made AS (
        INSERT INTO models (name, model)
        SELECT name, CAST(%(model)s AS jsonb) || jsonb_build_object('name', name)
        FROM unnest(CAST(%(models)s AS text[])) AS name
        RETURNING name
    )
    INSERT INTO workers (worker_id, model, slots, free_slots) SELECT 'worker-' || name, name, 8, 1 FROM made
"""

# From the oldest to the latest. A spec is what a client of a backend would send.
_GENERATIONS = """
    WITH numbered AS MATERIALIZED (
        SELECT n, uuidv7(make_interval(secs => (n - %(rows)s) * CAST(%(seconds_apart)s AS float8))) AS id,
            CASE WHEN n >= %(first_live)s THEN
                     CASE WHEN n %% %(running_one_in)s = 0 THEN 'RUNNING' ELSE 'QUEUED' END
                 WHEN n %% 100 < 88 THEN 'SUCCEEDED' WHEN n %% 100 < 94 THEN 'FAILED'
                 WHEN n %% 100 < 98 THEN 'CANCELLED' ELSE 'EXPIRED' END AS state,
            CASE WHEN n <= %(last_quiet)s OR n >= %(first_live)s AND n %% %(quiet_one_in)s = 7
                 THEN CAST(%(quiet)s AS text) ELSE %(busy)s END AS owner,
            (CAST(%(models)s AS text[]))[1 + n %% 5] AS model,
            n < %(first_live)s AND n %% 33 = 0 AS is_deleted,
            CASE WHEN n %% 17 = 0 THEN 2 ELSE 1 END AS attempts,
            jsonb_build_object(
                'prompt', 'a sunset over a beach, oil on canvas, warm light, long shadows, a single boat, ' || n,
                'negative_prompt', 'people, text', 'steps', 30, 'seed', n,
                'labels', jsonb_build_object('team', 'team-' || n %% 7, 'job', n::text, 'family', 'family-' || n %% 5)
            ) AS spec
        FROM generate_series(CAST(%(first)s AS bigint), CAST(%(last)s AS bigint)) AS n
    ), made AS (
        INSERT INTO generations (
            id, owner, request_id, model, priority, spec, resolved_spec, state, revision, attempt, claim_id,
            lease_expire_time, available_time, dispatched_time, images, failure, create_time, start_time, end_time,
            deadline_time, delete_time, purge_time
        )
        SELECT id, owner, 'request-' || n, model, n %% 3, CASE WHEN is_deleted THEN '{}' ELSE spec END,
            CASE WHEN is_deleted THEN '{}' ELSE spec || '{"width": 512, "height": 512, "scheduler": "ddim"}' END,
            state, CASE state WHEN 'QUEUED' THEN 1 WHEN 'RUNNING' THEN 2 ELSE 3 END,
            CASE state WHEN 'QUEUED' THEN 0 ELSE attempts END, CASE state WHEN 'QUEUED' THEN NULL ELSE 'claim' END,
            CASE state WHEN 'RUNNING' THEN now() + interval '1 day' END, create_time,
            CASE WHEN state = 'QUEUED' AND n < %(first_live)s + 80 THEN now() END,
            CASE WHEN state = 'SUCCEEDED' AND is_deleted THEN '[]' WHEN state = 'SUCCEEDED' THEN jsonb_build_array(
                jsonb_build_object(
                    'image', jsonb_build_object('sha256', encode(sha256(n::text::bytea), 'hex'), 'size_bytes', '41234'),
                    'object_key', 'results/' || id || '/' || attempts || '-nonce/0.png'
                )
            ) END,
            CASE state WHEN 'FAILED' THEN '{"reason": "FAILURE_REASON_MODEL_ERROR", "message": "no"}'::jsonb END,
            create_time, CASE state WHEN 'QUEUED' THEN NULL ELSE create_time + interval '1 s' END,
            CASE WHEN state NOT IN ('QUEUED', 'RUNNING') THEN create_time + interval '20 s' END,
            CASE WHEN n %% 2 = 0 THEN create_time + interval '60 days' END,
            CASE WHEN is_deleted THEN create_time + interval '1 hour' END,
            CASE WHEN n < %(first_live)s THEN create_time + interval '60 days' END
        FROM numbered CROSS JOIN LATERAL uuid_extract_timestamp(id) AS create_time
        RETURNING id, state, revision, attempt, create_time
    ), tried AS (
        INSERT INTO attempts
            (generation_id, number, worker_id, claim_id, object_prefix, outcome, progress, start_time, end_time)
        SELECT id, number, 'worker', 'claim', 'results/' || id || '/' || number || '-nonce/',
            CASE WHEN number < attempt THEN 'LOST' WHEN state IN ('SUCCEEDED', 'FAILED') THEN state
                 WHEN state <> 'RUNNING' THEN 'STOPPED' END,
            '{"step": 20, "steps": 30}', create_time + interval '1 s',
            CASE WHEN number < attempt OR state <> 'RUNNING' THEN create_time + interval '20 s' END
        FROM made CROSS JOIN generate_series(1, attempt) AS number
    )
    INSERT INTO events (generation_id, revision, state, attempt, time)
    SELECT id, number, CASE number WHEN 1 THEN 'QUEUED' WHEN 2 THEN 'RUNNING' ELSE state END,
           least(number - 1, attempt), create_time
    FROM made CROSS JOIN generate_series(1, revision) AS number
"""

# Of lost attempts; some are due.
_DELETIONS = """
    INSERT INTO object_deletions (object_prefix, immediately, create_time)
    SELECT object_prefix, number <= %(due)s, start_time FROM (
        SELECT object_prefix, start_time, row_number() OVER (ORDER BY generation_id) AS number
        FROM attempts WHERE outcome = 'LOST'
    ) AS lost
"""

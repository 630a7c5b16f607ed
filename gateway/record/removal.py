"""Every statement that removes: a deletion leaves a tombstone, the end of retention nothing, and objects follow.

Objects are never looked for in the bucket: attempts are rows, so their prefixes are known. A prefix that nobody can ask
for any more waits in `object_deletions` until no backup of the record is left that could still name it.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from gateway.record.database import Database

#: How many rows one statement removes at most, so that it stays short.
ROWS = 500


class Removal:
    """What goes away, and when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_generation(self, generation_id: str, *, owner: str, immediately: bool) -> bool:
        """Leave nothing but a tombstone of a final generation; say whether there is one now.

        Args:
            generation_id: The generation; its tombstone may be deleted again, to no effect or to hasten its objects.
            owner: Whose it is.
            immediately: Whether its objects go at once.
        """
        parameters = {"id": generation_id, "owner": owner, "immediately": immediately}
        return bool((await self._database.execute(_DELETE, parameters)).scalar_one())

    async def schedule(self, retention: timedelta) -> int:
        """Give a time to go away to final generations that have none, from before there was a retention; count them."""
        return (await self._database.execute(_SCHEDULE, {"retention": retention, "rows": ROWS})).rowcount

    async def purge(self) -> int:
        """Remove the generations, and the tombstones, whose time has come; count them."""
        return int((await self._database.execute(_PURGE, {"rows": ROWS})).scalar_one())

    async def get_due_prefixes(self, *, backup_age: timedelta, limit: int) -> list[str]:
        """Read which prefixes are to be removed from the bucket now."""
        rows = await self._database.execute(_DUE, {"backup_age": backup_age, "limit": limit})
        return list(rows.scalars())

    async def confirm_removed(self, object_prefixes: Sequence[str], *, backup_age: timedelta) -> None:
        """Take note that these prefixes were emptied.

        One that was emptied early comes up again at its time: a worker that is out of reach may still have been storing
        when it was.
        """
        await self._database.execute(_CONFIRM, {"prefixes": list(object_prefixes), "backup_age": backup_age})


_IS_FINAL = "state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED')"

_DELETE = text(f"""
    WITH tombstone AS (
        UPDATE generations
        SET delete_time = coalesce(delete_time, now()), spec = '{{}}', resolved_spec = '{{}}', phase_times = NULL,
            images = CASE WHEN images IS NOT NULL THEN CAST('[]' AS jsonb) END, failure = failure - 'message'
        WHERE id = :id AND owner = :owner AND {_IS_FINAL}
        RETURNING id
    ), scheduled AS (
        INSERT INTO object_deletions (object_prefix, immediately)
        SELECT object_prefix, :immediately FROM attempts JOIN tombstone ON generation_id = id
        ON CONFLICT (object_prefix) DO UPDATE SET immediately = object_deletions.immediately OR excluded.immediately
    ), forgotten AS (
        UPDATE attempts SET failure = failure - 'message' FROM tombstone
        WHERE generation_id = id AND failure ? 'message'
    )
    SELECT count(*) FROM tombstone
""")

# Here and below by an array of ids, as the sweep does: by a join PostgreSQL may read the whole table.
_SCHEDULE = text(f"""
    UPDATE generations SET purge_time = end_time + CAST(:retention AS interval)
    WHERE id = ANY(ARRAY(
        SELECT id FROM generations WHERE {_IS_FINAL} AND purge_time IS NULL LIMIT :rows FOR UPDATE SKIP LOCKED
    ))
""")

_PURGE = text(f"""
    WITH due AS (
        SELECT id FROM generations WHERE {_IS_FINAL} AND purge_time <= now()
        ORDER BY purge_time LIMIT :rows FOR UPDATE SKIP LOCKED
    ), scheduled AS (
        INSERT INTO object_deletions (object_prefix)
        SELECT object_prefix FROM attempts WHERE generation_id = ANY(ARRAY(SELECT id FROM due))
        ON CONFLICT DO NOTHING
    ), purged AS (
        DELETE FROM generations WHERE id = ANY(ARRAY(SELECT id FROM due)) RETURNING id
    )
    SELECT count(*) FROM purged
""")

# Each half goes along the index, as one condition with OR would not.
_DUE = text("""
    (SELECT object_prefix FROM object_deletions WHERE immediately ORDER BY create_time LIMIT :limit)
    UNION ALL
    (SELECT object_prefix FROM object_deletions
     WHERE NOT immediately AND create_time <= now() - CAST(:backup_age AS interval)
     ORDER BY create_time LIMIT :limit)
    LIMIT :limit
""")

_CONFIRM = text("""
    WITH done AS (
        DELETE FROM object_deletions
        WHERE object_prefix = ANY(:prefixes) AND create_time <= now() - CAST(:backup_age AS interval)
    )
    UPDATE object_deletions SET immediately = false
    WHERE object_prefix = ANY(:prefixes) AND create_time > now() - CAST(:backup_age AS interval)
""")

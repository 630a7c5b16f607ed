"""Retention: what has had its time goes away, first from the record, later from the bucket."""

import asyncio
from datetime import timedelta

from loguru import logger

from gateway.bucket import Bucket
from gateway.record.removal import ROWS, Removal

#: How many prefixes are emptied at the same time, and before it is noted that they were.
PREFIXES = 16


class Retention:
    """Removes what is due. Every gateway does, with the same right: removing twice does no harm.

    Args:
        removal: What is due.
        bucket: Where the objects are.
        retention: How long final generations are kept; for ever when None.
        backup_age: How long objects outlive their generation, so that a backup of the record finds them.
    """

    def __init__(self, removal: Removal, bucket: Bucket, *, retention: timedelta | None, backup_age: timedelta) -> None:
        self._removal = removal
        self._bucket = bucket
        self._retention = retention
        self._backup_age = backup_age

    async def remove_due(self) -> None:
        """Remove all that is due now.

        Raises:
            DatabaseUnavailable, StorageUnavailable: the rest is for the next time.
        """
        await self._purge_generations()
        await self._remove_objects()

    async def _purge_generations(self) -> None:
        if self._retention is None:
            return  # also what has a time to go since there was one: nothing may be lost against the settings
        while await self._removal.schedule(self._retention) == ROWS:
            pass
        while purged := await self._removal.purge():
            logger.info("purged {} generations", purged, action="purge")

    async def _remove_objects(self) -> None:
        while prefixes := await self._removal.get_due_prefixes(backup_age=self._backup_age, limit=PREFIXES):
            outcomes = await asyncio.gather(*map(self._bucket.remove, prefixes), return_exceptions=True)
            counts = {prefix: count for prefix, count in zip(prefixes, outcomes, strict=True) if isinstance(count, int)}
            # What the bucket refuses must not keep the rest.
            await self._removal.confirm_removed(list(counts), backup_age=self._backup_age)
            logger.info("removed {} objects of {} attempts", sum(counts.values()), len(counts), action="remove_objects")
            for refused in outcomes:
                if isinstance(refused, BaseException):
                    raise refused

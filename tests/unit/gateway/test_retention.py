"""What is removed, and what is not."""

from datetime import timedelta
from unittest.mock import AsyncMock

import pytest

from gateway.bucket import StorageUnavailable
from gateway.retention import Retention

DAY = timedelta(days=1)


async def remove(prefix: str) -> int:
    if prefix == "held":
        raise StorageUnavailable("cannot remove objects: it is under a legal hold")
    return 1


async def test_a_prefix_that_the_bucket_refuses_does_not_keep_the_others() -> None:
    removal = AsyncMock(**{"get_due_prefixes.return_value": ["a", "held", "b"]})
    retention = Retention(removal, AsyncMock(remove=remove), retention=None, backup_age=DAY)
    with pytest.raises(StorageUnavailable, match="legal hold"):
        await retention.remove_due()
    removal.confirm_removed.assert_awaited_once_with(["a", "b"], backup_age=DAY)


async def test_without_a_retention_nothing_is_purged_whatever_was_scheduled_before() -> None:
    removal = AsyncMock(**{"get_due_prefixes.return_value": []})
    await Retention(removal, AsyncMock(), retention=None, backup_age=DAY).remove_due()
    removal.schedule.assert_not_awaited()
    removal.purge.assert_not_awaited()

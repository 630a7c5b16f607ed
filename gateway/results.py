"""Results: how attempts ended, as workers hand it in, on its way into the record."""

import re
import uuid

from loguru import logger

from easel import crash
from easel.crash import CrashPoint
from easel.worker.v1.result_pb2 import Result, StoredImage
from gateway.announcements import Announcements
from gateway.bucket import Bucket
from gateway.record.adoption import Adoption, ForgottenAttempt
from gateway.record.attempts import Attempt, Attempts, RetryPolicy
from gateway.record.documents import to_json
from gateway.record.generation import Change

#: Where an attempt's pictures lie; what does not look like this is never put down for deletion.
_OBJECT_KEY = re.compile(r"(results/([0-9a-f-]{36})/\d+-[0-9a-f]+/)[^/]+")


class Results:
    """Commits results, and tells of what they changed."""

    def __init__(
        self,
        attempts: Attempts,
        adoption: Adoption,
        bucket: Bucket,
        *,
        announcements: Announcements,
        policy: RetryPolicy,
    ) -> None:
        self._attempts = attempts
        self._adoption = adoption
        self._bucket = bucket
        self._announcements = announcements
        self._policy = policy

    async def commit(self, result: Result, *, again: bool = False) -> Change | None:
        """Commit a result, and return what it changed; the first one wins, so that most come once and only once.

        Args:
            result: As `read_result` returns it.
            again: Whether it may have been committed before, to a record that has forgotten it; what became of its
                generation then may have removed its pictures.

        Raises:
            DatabaseUnavailable: whether it was committed is not known.
            StorageUnavailable: it was not, since nobody can say whether its pictures are there.
        """
        if result.HasField("failure"):
            change = await self._attempts.fail(_attempt(result), failure=to_json(result.failure), policy=self._policy)
        elif again and not await self._has_pictures(result):
            return None
        else:
            change = await self._succeed(result) or await self._adopt(result)
        crash.reach(CrashPoint.AFTER_PROJECTION)
        if change is not None:
            # Another attempt may be under way, or be hinted at: this result came first.
            await self._announcements.announce(change, stop_workers=change.state.is_final)
        return change

    async def _succeed(self, result: Result) -> Change | None:
        return await self._attempts.succeed(
            _attempt(result),
            images=[to_json(stored) for stored in result.success.images],
            phase_times=to_json(result.success.phase_times),
        )

    async def _adopt(self, result: Result) -> Change | None:
        """Take the pictures of an attempt that the record has forgotten, or put them down if nobody waits for any."""
        prefix = _prefix_of(result)
        if prefix is None:
            return None
        attempt = ForgottenAttempt(
            generation_id=result.generation_id,
            number=result.attempt,
            worker_id=result.worker_id,
            claim_id=result.claim_id,
            object_prefix=prefix,
        )
        if not await self._adoption.wants(attempt):
            if await self._adoption.put_down(attempt):
                logger.info("nobody can ask for the pictures of {}", prefix, action="put_down")
            return None
        if not await self._has_pictures(result):
            return None
        change = await self._adoption.adopt(
            attempt,
            images=[to_json(stored) for stored in result.success.images],
            phase_times=to_json(result.success.phase_times),
        )
        if change is not None:
            logger.info("took the pictures of an attempt that the record had forgotten", action="adopt")
        return change

    async def _has_pictures(self, result: Result) -> bool:
        missing = await self._bucket.find_missing(
            [(stored.object_key, stored.image.size_bytes) for stored in result.success.images]
        )
        if missing:
            logger.info("{} is gone, and its result with it", missing[0], action="pictures_gone")
        return not missing


def read_result(data: bytes) -> Result:
    """Read a result.

    Raises:
        DecodeError, ValueError: it makes no sense.
    """
    result = Result.FromString(data)
    result.generation_id = str(uuid.UUID(result.generation_id))
    if result.WhichOneof("outcome") is None:
        raise ValueError("a result without an outcome")
    if result.HasField("failure"):
        # PostgreSQL has no NUL in a text, and what a library complains of may be one.
        result.failure.message = result.failure.message.replace("\0", "")
    return result


def _attempt(result: Result) -> Attempt:
    return Attempt(generation_id=result.generation_id, number=result.attempt, claim_id=result.claim_id)


def _prefix_of(result: Result) -> str | None:
    """Say where the pictures of a success lie, if all of them lie in a place of this generation's."""
    prefixes = {_place_of(stored, generation_id=result.generation_id) for stored in result.success.images}
    return prefixes.pop() if len(prefixes) == 1 else None


def _place_of(stored: StoredImage, *, generation_id: str) -> str | None:
    match = _OBJECT_KEY.fullmatch(stored.object_key)
    return match[1] if match and match[2] == generation_id else None

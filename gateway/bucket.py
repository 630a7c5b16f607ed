"""The bucket of the pictures, as far as a gateway touches it: it looks for, and removes, what the record names."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import urllib3.exceptions
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

THREADS = 16
#: A worker, or the results behind this one, wait for what comes of a look.
LOOK_SECONDS = 5.0

Result = TypeVar("Result")

_ERRORS = (MinioException, urllib3.exceptions.HTTPError, OSError)


class StorageUnavailable(Exception):
    """The bucket is out of reach, or refuses."""


class Bucket:
    """Any S3-compatible bucket, through minio's client in threads, since that is synchronous."""

    def __init__(self, client: Minio, *, name: str) -> None:
        self._client = client
        self._name = name
        # Of its own, since a hanging server may hold them for long, and others want the usual ones.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bucket")

    def close(self) -> None:
        """Let the threads end after what they have in hand."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def remove(self, prefix: str) -> int:
        """Remove every object whose key begins with a prefix, and count them; none is fine.

        Raises:
            StorageUnavailable: some may be left.
        """
        return await self._run(self._remove, prefix)

    async def find_missing(self, objects: Sequence[tuple[str, int]]) -> list[str]:
        """Find out which of these objects (key, size) are not there in their size.

        Raises:
            StorageUnavailable: nobody can tell.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                there = await asyncio.gather(*(self._run(self._is_there, key, size) for key, size in objects))
        except TimeoutError as error:
            raise StorageUnavailable(f"no look at objects within {LOOK_SECONDS:g} s") from error
        return [key for (key, _), is_there in zip(objects, there, strict=True) if not is_there]

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _is_there(self, key: str, size_bytes: int) -> bool:
        try:
            return bool(self._client.stat_object(self._name, key).size == size_bytes)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                return False
            raise StorageUnavailable(f"cannot look for objects: {error.code}") from error
        except _ERRORS as error:
            raise StorageUnavailable(f"cannot look for objects: {error!r}") from error

    def _remove(self, prefix: str) -> int:
        try:
            objects = self._client.list_objects(self._name, prefix=prefix, recursive=True)
            doomed = [DeleteObject(one.object_name) for one in objects if one.object_name]
            # The answer is read lazily: without a look at it nothing is removed.
            refused = [f"{error.name}: {error.message}" for error in self._client.remove_objects(self._name, doomed)]
        except S3Error as error:
            if error.code == "NoSuchBucket":
                return 0
            raise StorageUnavailable(f"cannot remove objects: {error.code}") from error
        except _ERRORS as error:
            raise StorageUnavailable(f"cannot remove objects: {error!r}") from error
        if refused:
            raise StorageUnavailable(f"cannot remove objects: {refused[0]}")
        return len(doomed)

"""The bucket of the pictures, as far as a gateway touches it: it looks for, and removes, what the record names."""

import asyncio
from collections.abc import Sequence

import urllib3.exceptions
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

_ERRORS = (MinioException, urllib3.exceptions.HTTPError, OSError)


class StorageUnavailable(Exception):
    """The bucket is out of reach, or refuses."""


class Bucket:
    """Any S3-compatible bucket, through minio's client in threads, since that is synchronous."""

    def __init__(self, client: Minio, *, name: str) -> None:
        self._client = client
        self._name = name

    async def remove(self, prefix: str) -> int:
        """Remove every object whose key begins with a prefix, and count them; none is fine.

        Raises:
            StorageUnavailable: some may be left.
        """
        return await asyncio.to_thread(self._remove, prefix)

    async def find_missing(self, objects: Sequence[tuple[str, int]]) -> list[str]:
        """Find out which of these objects (key, size) are not there in their size.

        Raises:
            StorageUnavailable: nobody can tell.
        """
        there = await asyncio.gather(*(asyncio.to_thread(self._is_there, key, size) for key, size in objects))
        return [key for (key, _), is_there in zip(objects, there, strict=True) if not is_there]

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

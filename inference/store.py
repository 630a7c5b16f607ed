"""Where pictures are kept."""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import stamina
import urllib3.exceptions
from loguru import logger
from minio import Minio
from minio.error import MinioException, S3Error

from inference.pictures import PictureFile

FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 2.0
THREADS = 8

_ERRORS = (MinioException, urllib3.exceptions.HTTPError, OSError)
_BUCKET_IS_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


class StorageUnavailable(Exception):
    """The picture could not be stored within the time that was given."""


class ObjectStore(Protocol):
    """Keeps files by their keys."""

    async def ensure_bucket(self) -> None:
        """Make the bucket unless it is there, trying for as long as it takes."""
        ...

    async def put(self, key: str, file: PictureFile) -> None:
        """Store a file; storing it again replaces it.

        Raises:
            StorageUnavailable: it could not be stored.
        """
        ...


class MinioObjectStore:
    """Any S3-compatible server, through minio's client in threads, since that is synchronous.

    Every error is tried again for a while, also those that look final: a server that restarts gives all kinds of
    answers, and the picture was dear.
    """

    def __init__(self, client: Minio, *, bucket: str, timeout_seconds: float) -> None:
        self._client = client
        self._bucket = bucket
        self._timeout_seconds = timeout_seconds
        # Of its own, since the default one is waited for at the end, and a hanging server may hold a thread for long.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")

    def close(self) -> None:
        """Let the threads end after what they have in hand."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ensure_bucket(self) -> None:
        """Make the bucket unless it is there, trying for as long as it takes."""
        await self._persist(self._make_bucket, timeout_seconds=None)

    async def put(self, key: str, file: PictureFile) -> None:
        """Store a file."""
        try:
            await self._persist(lambda: self._put(key, file), timeout_seconds=self._timeout_seconds)
        except _ERRORS as error:
            raise StorageUnavailable(_describe(error)) from error

    async def _persist(self, action: Callable[[], None], *, timeout_seconds: float | None) -> None:
        async for attempt in stamina.retry_context(
            on=_is_worth_another_try,
            attempts=None,
            timeout=timeout_seconds,
            wait_initial=FIRST_WAIT_SECONDS,
            wait_max=MAX_WAIT_SECONDS,
        ):
            with attempt:
                await asyncio.get_running_loop().run_in_executor(self._threads, action)

    def _put(self, key: str, file: PictureFile) -> None:
        try:
            self._client.put_object(
                self._bucket, key, io.BytesIO(file.data), len(file.data), content_type=file.content_type
            )
        except S3Error as error:
            if error.code == "NoSuchBucket":  # wiped since the start
                self._make_bucket()
            raise

    def _make_bucket(self) -> None:
        if self._client.bucket_exists(self._bucket):
            return
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in _BUCKET_IS_THERE:
                raise


def _is_worth_another_try(error: Exception) -> bool:
    if not isinstance(error, _ERRORS):
        return False
    logger.warning("storage: {}", _describe(error), action="storage_retry")
    return True


def _describe(error: Exception) -> str:
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message}"
    return str(error).split("\n")[0][:300] or type(error).__name__

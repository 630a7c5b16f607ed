"""Fetching the file of a picture over its signed URL, whole and unharmed or not at all."""

import errno
import hashlib
import os
import uuid
from pathlib import Path
from typing import Self

import httpx2

from easel.client.channel import is_loopback
from easel.client.errors import CorruptDownload, DownloadFailed
from easel.v1.generation_pb2 import Image

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0


class LinkExpired(DownloadFailed):
    """The signed URL is not good any more."""


class StorageAway(DownloadFailed):
    """The storage is out of reach, or cannot answer at present."""


async def fetch(image: Image, path: Path) -> None:
    """Write the file of `image` to `path`, which appears only once its size and SHA-256 are right.

    Raises:
        LinkExpired: the storage refused the URL, or there is none.
        StorageAway: the storage did not answer, or not to the end; trying again may help.
        CorruptDownload: the file has another size or SHA-256 than the picture that was stored.
        DownloadFailed: the storage answered with anything else.
        OSError: the file could not be written.
    """
    if not image.url:
        raise LinkExpired(f"picture {image.index} has no signed URL")
    timeout = httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    with _Partial(path, image) as partial:
        try:
            async with (
                httpx2.AsyncClient(timeout=timeout, trust_env=not is_loopback(image.url)) as client,
                client.stream("GET", image.url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                _check_status(response)
                async for chunk in response.aiter_bytes():
                    partial.write(chunk)
        except httpx2.TransportError as error:
            raise StorageAway(f"fetching picture {image.index} broke off: {error or type(error).__name__}") from error
        except httpx2.InvalidURL as error:
            raise DownloadFailed(f"picture {image.index} has no usable URL: {error}") from error
        partial.finish()


def _check_status(response: httpx2.Response) -> None:
    if response.status_code == httpx2.codes.FORBIDDEN:
        raise LinkExpired("the storage refused the signed URL (403)")
    if response.is_server_error:
        raise StorageAway(f"the storage answered {response.status_code} {response.reason_phrase}")
    if response.status_code != httpx2.codes.OK:
        raise DownloadFailed(f"the storage answered {response.status_code} {response.reason_phrase}")


class _Partial:
    """A file that comes into being beside its final path, and moves there whole or vanishes."""

    def __init__(self, path: Path, image: Image) -> None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._path = path
        self._image = image
        self._partial_path = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial_path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial_path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Append a chunk, unless the file grows beyond what it should be."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._image.size_bytes:
            raise self._corrupt(f"more than {self._image.size_bytes} bytes")
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        """Check the whole and move it to its final path."""
        if self._size_bytes != self._image.size_bytes:
            raise self._corrupt(f"{self._size_bytes} bytes instead of {self._image.size_bytes}")
        if self._digest.hexdigest() != self._image.sha256:
            raise self._corrupt(f"SHA-256 {self._digest.hexdigest()} instead of {self._image.sha256}")
        self._file.close()
        self._partial_path.replace(self._path)

    def _corrupt(self, how: str) -> CorruptDownload:
        return CorruptDownload(f"the file of picture {self._image.index} is not the one that was stored: {how}")

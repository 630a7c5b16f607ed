"""Signed URLs of pictures."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from minio import Minio


@dataclass(frozen=True, kw_only=True)
class SignedUrl:
    """Where to fetch a file, and until when."""

    url: str
    expire_time: datetime


class ImageSigner:
    """Signs URLs for a bucket, without asking the server: signing is arithmetic."""

    def __init__(self, client: Minio, *, bucket: str, lifetime: timedelta) -> None:
        self._client = client
        self._bucket = bucket
        self._lifetime = lifetime

    def sign(self, object_key: str, *, lifetime: timedelta | None = None) -> SignedUrl:
        """Sign a URL for one object, to be fetched with GET."""
        lifetime = lifetime or self._lifetime
        now = datetime.now(UTC)
        url = self._client.presigned_get_object(self._bucket, object_key, expires=lifetime, request_date=now)
        return SignedUrl(url=url, expire_time=now + lifetime)

"""The connection to S3-compatible storage that both services share."""

from urllib.parse import urlsplit

import urllib3
from minio import Minio

from easel.settings import Settings

#: Long enough for a large picture over a slow line, short enough that a hanging server is noticed.
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0


def connect(settings: Settings, *, endpoint: str, read_timeout_seconds: float = READ_TIMEOUT_SECONDS) -> Minio:
    """Make a client for one endpoint, such as `https://s3.example.org`; synchronous, and safe to share among threads.

    The region is set, since otherwise the first signature makes a blocking call to ask for it. Retries are left to the
    callers, who know what may be repeated.
    """
    url = urlsplit(endpoint)
    return Minio(
        url.netloc,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key.get_secret_value() or None,
        secure=url.scheme == "https",
        region=settings.s3_region,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds),
            retries=False,
            maxsize=16,
            ca_certs=settings.s3_ca_file or None,
        ),
    )

import asyncio
import hashlib
import uuid

import pytest
from minio import Minio
from pydantic import SecretStr

from easel import objects
from easel.embedded.s3 import S3
from easel.settings import Settings
from inference.pictures import PictureFile
from inference.store import MinioObjectStore, StorageUnavailable

FILE = PictureFile(data=b"not quite a picture", content_type="image/png", extension="png", width=1, height=1)


@pytest.fixture
def client(s3: S3) -> Minio:
    settings = Settings(s3_access_key=s3.access_key, s3_secret_key=SecretStr(s3.secret_key))
    return objects.connect(settings, endpoint=s3.endpoint)


def read(client: Minio, bucket: str, key: str) -> tuple[bytes, str | None]:
    answer = client.get_object(bucket, key)
    try:
        return answer.read(), answer.headers.get("content-type")
    finally:
        answer.close()
        answer.release_conn()


async def test_a_file_is_stored_in_a_bucket_that_is_made(client: Minio) -> None:
    bucket = f"bucket-{uuid.uuid4().hex}"
    store = MinioObjectStore(client, bucket=bucket, timeout_seconds=10)

    await store.ensure_bucket()
    await store.ensure_bucket()
    await store.put("results/a/1-x/0.png", FILE)

    data, content_type = read(client, bucket, "results/a/1-x/0.png")
    assert hashlib.sha256(data).hexdigest() == FILE.sha256
    assert content_type == "image/png"


async def test_a_bucket_that_was_wiped_is_made_again(client: Minio) -> None:
    bucket = f"bucket-{uuid.uuid4().hex}"
    store = MinioObjectStore(client, bucket=bucket, timeout_seconds=10)

    await store.put("0.png", FILE)

    assert read(client, bucket, "0.png")[0] == FILE.data


async def test_a_server_that_is_away_for_a_while_is_waited_for(client: Minio, s3: S3) -> None:
    store = MinioObjectStore(client, bucket="easel", timeout_seconds=60)
    await s3.stop()

    putting = asyncio.create_task(store.put("late.png", FILE))
    ensuring = asyncio.create_task(store.ensure_bucket())
    done, _ = await asyncio.wait([putting, ensuring], timeout=0.3)
    assert not done
    await s3.start()
    await asyncio.gather(putting, ensuring)

    assert read(client, "easel", "late.png")[0] == FILE.data


async def test_a_server_that_stays_away_is_given_up() -> None:
    nowhere = objects.connect(Settings(), endpoint="http://127.0.0.1:9")
    store = MinioObjectStore(nowhere, bucket="easel", timeout_seconds=0.3)

    with pytest.raises(StorageUnavailable, match="refused"):
        await store.put("0.png", FILE)


async def test_a_refusal_is_given_up_too(s3: S3) -> None:
    stranger = objects.connect(
        Settings(s3_access_key="nobody", s3_secret_key=SecretStr("nothing")), endpoint=s3.endpoint
    )
    store = MinioObjectStore(stranger, bucket="easel", timeout_seconds=0.3)

    with pytest.raises(StorageUnavailable, match="InvalidAccessKeyId"):
        await store.put("0.png", FILE)

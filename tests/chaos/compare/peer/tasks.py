"""The actor that draws: it takes as long as a scripted picture does, and stores it in S3."""

import hashlib
import io
import os
import time
import uuid

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from minio import Minio

#: As long as Easel's lease in the same comparison.
HEARTBEAT_TIMEOUT_MILLISECONDS = 2_000
#: Of a million commands: with the default of a thousand a queue as quiet as this finds a dead worker after minutes.
MAINTENANCE_CHANCE = 200_000
MAX_RETRIES = 100
MIN_BACKOFF_MILLISECONDS = 100
MAX_BACKOFF_MILLISECONDS = 2_000
#: A job's record: its fields are state, step, key.
JOB = "job:{}"

jobs = redis.Redis.from_url(os.environ["PEER_REDIS_URL"], decode_responses=True)
dramatiq.set_broker(
    RedisBroker(  # type: ignore[no-untyped-call]
        url=os.environ["PEER_REDIS_URL"],
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MILLISECONDS,
        maintenance_chance=MAINTENANCE_CHANCE,
    )
)
store = Minio(
    os.environ["EASEL_S3_ENDPOINT"].removeprefix("http://"),
    access_key=os.environ["EASEL_S3_ACCESS_KEY"],
    secret_key=os.environ["EASEL_S3_SECRET_KEY"],
    region=os.environ["EASEL_S3_REGION"],
    secure=False,
)


@dramatiq.actor(max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MILLISECONDS, max_backoff=MAX_BACKOFF_MILLISECONDS)
def draw(job_id: str, steps: int, step_seconds: float) -> None:
    """Draw one picture, and write down that it is there."""
    job = JOB.format(job_id)
    if jobs.hget(job, "state") == "SUCCEEDED":
        return
    for step in range(1, steps + 1):
        time.sleep(step_seconds)
        jobs.hset(job, mapping={"state": "RUNNING", "step": step})
    picture = hashlib.sha256(job_id.encode()).digest() * 100
    # A name of its own each time, so that a second drawing leaves a trace.
    key = f"peer/{job_id}/{uuid.uuid4().hex}.png"
    store.put_object("easel", key, io.BytesIO(picture), len(picture))
    jobs.hset(job, mapping={"state": "SUCCEEDED", "key": key})

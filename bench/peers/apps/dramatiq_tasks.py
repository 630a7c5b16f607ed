"""The actor that draws, one picture at a time; each step is written down where the service in front finds it."""

import os
from functools import lru_cache
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from drawing import Studio

JOB = "job:{}"

jobs = redis.Redis.from_url(os.environ["PEER_REDIS_URL"], decode_responses=True)
dramatiq.set_broker(RedisBroker(url=os.environ["PEER_REDIS_URL"]))


@lru_cache
def studio() -> Studio:
    """Load the model once in each process."""
    return Studio()


@dramatiq.actor
def draw(job: dict[str, Any]) -> None:
    """Draw one picture, and write down that it is there."""
    name = JOB.format(job["id"])
    (key,) = studio().draw([job], on_step=lambda step: jobs.hset(name, mapping={"state": "RUNNING", "step": step}))
    jobs.hset(name, mapping={"state": "SUCCEEDED", "key": key})

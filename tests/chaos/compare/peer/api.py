"""The service in front: takes requests, answers at once, and says how they stand."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.exceptions import RedisError

from tests.chaos.compare.peer.tasks import JOB, draw, jobs

app = FastAPI()


class Wanted(BaseModel):
    """A request; the same `request_id` is the same job."""

    request_id: str
    steps: int
    step_seconds: float


@app.exception_handler(RedisError)
def say_unavailable(_request: Request, _error: RedisError) -> JSONResponse:
    return JSONResponse({"detail": "the queue is out of reach"}, status_code=503)


@app.post("/generations", status_code=202)
def create(wanted: Wanted) -> dict[str, str]:
    job = JOB.format(wanted.request_id)
    jobs.hsetnx(job, "state", "QUEUED")
    # Asked again, it is enqueued again, since nobody knows whether it was.
    if jobs.hget(job, "state") == "QUEUED":
        draw.send(wanted.request_id, wanted.steps, wanted.step_seconds)
    return {"id": wanted.request_id}


@app.get("/generations/{job_id}")
def get(job_id: str) -> dict[str, str]:
    found = jobs.hgetall(JOB.format(job_id))
    if not found:
        raise HTTPException(404)
    return {str(name): str(value) for name, value in found.items()}

"""The service in front: takes requests, answers at once, and says how they stand."""

from typing import Any

from dramatiq_tasks import JOB, draw, jobs
from fastapi import FastAPI

app = FastAPI()


@app.post("/pictures", status_code=202)
def create(job: dict[str, Any]) -> dict[str, str]:
    """Take a request."""
    jobs.hset(JOB.format(job["id"]), "state", "QUEUED")
    draw.send(job)
    return {"id": job["id"]}


@app.get("/pictures/{job_id}")
def get(job_id: str) -> dict[str, str]:
    """Say how one stands."""
    return {str(name): str(value) for name, value in jobs.hgetall(JOB.format(job_id)).items()}

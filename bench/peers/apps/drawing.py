"""What both services do for a picture: the stock pipeline, as its documentation says, and a bucket. Knows no Easel."""

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import torch
from minio import Minio

SCHEDULERS = {
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
}


class Studio:
    """A pipeline, and where its pictures go."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["PEER_THREADS"]))
        self._pipeline = diffusers.DiffusionPipeline.from_pretrained(os.environ["PEER_MODEL"], safety_checker=None)
        self._pipeline.set_progress_bar_config(disable=True)
        self._store = Minio(
            os.environ["EASEL_S3_ENDPOINT"].removeprefix("http://"),
            access_key=os.environ["EASEL_S3_ACCESS_KEY"],
            secret_key=os.environ["EASEL_S3_SECRET_KEY"],
            region=os.environ["EASEL_S3_REGION"],
            secure=False,
        )

    def draw(self, jobs: Sequence[dict[str, Any]], on_step: Callable[[int], None] = lambda _step: None) -> list[str]:
        """Draw jobs that ask for the same together, store their pictures, and return the keys."""
        first = jobs[0]

        def on_step_end(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1)
            return tensors

        kind = getattr(diffusers, SCHEDULERS[first["scheduler"]])
        self._pipeline.scheduler = kind.from_config(self._pipeline.scheduler.config)
        pictures = self._pipeline(
            [job["prompt"] for job in jobs],
            width=first["width"],
            height=first["height"],
            num_inference_steps=first["steps"],
            guidance_scale=first["guidance_scale"],
            generator=[torch.Generator().manual_seed(job["seed"]) for job in jobs],
            callback_on_step_end=on_step_end,
        ).images
        return [self._keep(job, picture) for job, picture in zip(jobs, pictures, strict=True)]

    def _keep(self, job: dict[str, Any], picture: Any) -> str:
        file = io.BytesIO()
        picture.save(file, "PNG")
        key = f"peers/{job['id']}.png"
        self._store.put_object(os.environ["EASEL_S3_BUCKET"], key, io.BytesIO(file.getvalue()), len(file.getvalue()))
        return key


def alike(job: dict[str, Any]) -> tuple[object, ...]:
    """Say what jobs must have in common to be drawn together."""
    return tuple(job[name] for name in ("width", "height", "steps", "guidance_scale", "scheduler"))

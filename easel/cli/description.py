"""A generation for machines: the one JSON shape that all commands print."""

import json
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import Message

from easel.cli.terminal import failure_name, format_name, outcome_name, phase_name, phase_seconds, seconds, state_name
from easel.client import Attempt, Event, Failure, Generation, GenerationSpec, Image, Preview, Progress, is_final


def print_json(described: dict[str, object]) -> None:
    """Print one object in a line of its own, at once."""
    print(json.dumps(described), flush=True)


def describe(generation: Generation, *, paths: Sequence[Path] = (), **more: object) -> dict[str, object]:
    """Describe a generation, with the paths of its pictures where they were downloaded."""
    return {
        "id": generation.id,
        "state": state_name(generation),
        **_spec(generation.resolved_spec),
        "attempt_count": generation.attempt_count,
        "retried_from": generation.retried_from or None,
        "create_time": _time(generation, "create_time"),
        "start_time": _time(generation, "start_time"),
        "end_time": _time(generation, "end_time"),
        "deadline_time": _time(generation, "deadline_time"),
        "purge_time": _time(generation, "purge_time"),
        "progress": describe_progress(generation.progress) if generation.HasField("progress") else None,
        "phase_seconds": phase_seconds(generation) if is_final(generation) else {},
        "images": describe_images(generation.images, paths=paths),
        "failure": _failure(generation.failure) if generation.HasField("failure") else None,
        **more,
    }


def describe_event(event: Event, *, preview_path: Path | None = None, paths: Sequence[Path] = ()) -> dict[str, object]:
    """Describe one thing that happened, `event` saying of which kind it is."""
    token = {"resume_token": event.resume_token}
    if event.progress is not None:
        return {"event": "progress", "id": event.generation.id} | describe_progress(event.progress) | token
    if event.preview is not None:
        path = None if preview_path is None else str(preview_path)
        return {"event": "preview", "id": event.generation.id} | _preview(event.preview) | {"path": path} | token
    return {"event": "state"} | describe(event.generation, paths=paths) | token


def describe_attempt(attempt: Attempt, *, generation_id: str) -> dict[str, object]:
    """Describe an attempt at a generation."""
    return {
        "id": generation_id,
        "number": attempt.number,
        "outcome": outcome_name(attempt) if attempt.outcome else None,
        "worker_id": attempt.worker_id,
        "alone": attempt.alone if attempt.HasField("alone") else None,
        "start_time": _time(attempt, "start_time"),
        "end_time": _time(attempt, "end_time"),
        "progress": describe_progress(attempt.progress) if attempt.HasField("progress") else None,
        "failure": _failure(attempt.failure) if attempt.HasField("failure") else None,
    }


def describe_progress(progress: Progress) -> dict[str, object]:
    """Describe how far a generation has come."""
    return {
        "attempt": progress.attempt,
        "phase": phase_name(progress.phase),
        "step": progress.step,
        "steps": progress.steps,
        "step_seconds": progress.step_seconds if progress.HasField("step_seconds") else None,
        "eta_seconds": seconds(progress.eta) if progress.HasField("eta") else None,
        "queue_position": progress.queue_position if progress.HasField("queue_position") else None,
    }


def describe_images(images: Sequence[Image], *, paths: Sequence[Path] = ()) -> list[dict[str, object]]:
    """Describe pictures, each with its path or with its URL."""
    described: list[dict[str, object]] = []
    for number, image in enumerate(images):
        place: dict[str, object] = {"path": str(paths[number])} if paths else _link(image)
        described.append(
            {
                "index": image.index,
                **place,
                "seed": image.seed,
                "width": image.width,
                "height": image.height,
                "content_type": image.content_type,
                "size_bytes": image.size_bytes,
                "sha256": image.sha256,
            }
        )
    return described


def _failure(failure: Failure) -> dict[str, object]:
    return {"reason": failure_name(failure), "message": failure.message, "retryable": failure.retryable}


def _link(image: Image) -> dict[str, object]:
    return {"url": image.url or None, "url_expire_time": _time(image, "url_expire_time")}


def _spec(spec: GenerationSpec) -> dict[str, object]:
    return {
        "model": spec.model,
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width,
        "height": spec.height,
        "steps": spec.steps,
        "guidance_scale": spec.guidance_scale,
        "seed": spec.seed,
        "image_count": spec.image_count,
        "scheduler": spec.scheduler,
        "format": format_name(spec.output),
        "timeout_seconds": seconds(spec.timeout) if spec.HasField("timeout") else None,
        "priority": spec.priority,
        "labels": dict(spec.labels),
    }


def _preview(preview: Preview) -> dict[str, object]:
    return {
        "attempt": preview.attempt,
        "step": preview.step,
        "image_index": preview.image_index,
        "content_type": preview.content_type,
        "size_bytes": len(preview.data),
    }


def _time(message: Message, field: str) -> str | None:
    """Write a moment as RFC 3339, in UTC."""
    return getattr(message, field).ToJsonString() if message.HasField(field) else None

"""Between the record and the messages of `easel.v1`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from easel.v1.generation_pb2 import Attempt, AttemptOutcome, Failure, GenerationState, Image, PhaseTimes, Progress
from easel.v1.generation_pb2 import Generation as GenerationMessage
from gateway.images import ImageSigner
from gateway.record.documents import from_json
from gateway.record.generation import Generation, State, StoredAttempt


def to_message(
    generation: Generation, *, signer: ImageSigner | None, queue_position: int | None = None
) -> GenerationMessage:
    """Write a generation as clients see it; if it has SUCCEEDED, with URLs signed by the signer, if there is one."""
    message = GenerationMessage(
        id=generation.id,
        spec=generation.spec,
        resolved_spec=generation.resolved_spec,
        state=GenerationState.Value(f"GENERATION_STATE_{generation.state}"),
        revision=generation.revision,
        attempt_count=generation.attempt,
        images=to_images(generation, signer=signer),
        retried_from=generation.retried_from or "",
    )
    if generation.failure is not None:
        message.failure.CopyFrom(from_json(generation.failure, Failure()))
    if generation.phase_times is not None:
        message.phase_times.CopyFrom(from_json(generation.phase_times, PhaseTimes()))
    if generation.state == State.RUNNING and generation.progress is not None:
        message.progress.CopyFrom(from_json(generation.progress, Progress()))
    if queue_position is not None:
        message.progress.queue_position = queue_position
        message.progress.steps = message.resolved_spec.steps * message.resolved_spec.image_count
    for name in ("create_time", "start_time", "end_time", "deadline_time", "purge_time"):
        time = getattr(generation, name)
        if time is not None:
            getattr(message, name).CopyFrom(to_timestamp(time))
    return message


def to_images(
    generation: Generation, *, signer: ImageSigner | None, lifetime: timedelta | None = None
) -> Iterable[Image]:
    """Write the pictures of a generation, with fresh URLs if there is a signer."""
    for stored in generation.images:
        image = from_json(stored.image, Image())
        if signer is None:
            yield image
            continue
        url = signer.sign(stored.object_key, lifetime=lifetime)
        image.url = url.url
        image.url_expire_time.CopyFrom(to_timestamp(url.expire_time))
        yield image


def to_attempt(attempt: StoredAttempt) -> Attempt:
    """Write an attempt as clients see it."""
    message = Attempt(number=attempt.number, worker_id=attempt.worker_id, alone=attempt.alone)
    message.start_time.CopyFrom(to_timestamp(attempt.start_time))
    if attempt.failure is not None:
        message.failure.CopyFrom(from_json(attempt.failure, Failure()))
    if attempt.progress is not None:
        message.progress.CopyFrom(from_json(attempt.progress, Progress()))
    if attempt.outcome is not None:
        message.outcome = AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{attempt.outcome}")
    if attempt.end_time is not None:
        if message.HasField("progress"):
            message.progress.ClearField("eta")
        message.end_time.CopyFrom(to_timestamp(attempt.end_time))
    return message


def to_timestamp(time: datetime) -> Timestamp:
    """Write a time."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp

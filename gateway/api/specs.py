"""What a request may ask for: every field checked, all violations named at once, before the database is touched."""

import math
import re
import secrets
import uuid
from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from easel.subjects import is_token
from easel.v1.generation_messages_pb2 import BatchCreateGenerationsRequest
from easel.v1.generation_pb2 import GenerationSpec, ImageFormat
from easel.v1.model_pb2 import IntRange, Model
from gateway.api.violations import Violations
from gateway.errors import InvalidRequest, Violation
from gateway.resume_token import Position, from_token

MAX_BATCH = 100
MAX_PROMPT_LENGTH = 4_000
#: The largest seed, and the largest that any JSON reader keeps exactly.
MAX_SEED = 2**53 - 1
#: Drawn seeds stay below this, so that people can type them.
DRAWN_SEEDS = 2**32
SHORTEST = timedelta(seconds=1)
MAX_TIMEOUT = timedelta(days=7)
MAX_URL_LIFETIME = timedelta(days=7)
NANOS_PER_SECOND = 1_000_000_000
MAX_PRIORITY = 100
MAX_LABELS = 32
MAX_LABEL_VALUE_LENGTH = 255
DEFAULT_QUALITY = 90
_LABEL_KEY = re.compile(r"[A-Za-z0-9_./-]{1,63}")


def check_generation_id(generation_id: str) -> str:
    """Return the id in its usual form.

    Raises:
        InvalidRequest: it is no UUID.
    """
    try:
        return str(uuid.UUID(generation_id))
    except ValueError:
        raise InvalidRequest([Violation("id", "must be the UUID of a generation")]) from None


def check_resume_token(token: str, *, generation_id: str) -> Position:
    """Read a resume token of this generation; an empty one is the very beginning.

    Raises:
        InvalidRequest: it is no token, or that of another generation.
    """
    if not token:
        return Position(generation_id=generation_id, revision=0)
    try:
        position = from_token(token)
    except ValueError:
        raise InvalidRequest([Violation("resume_token", "is not a token that this service gave out")]) from None
    if position.generation_id != generation_id:
        raise InvalidRequest([Violation("resume_token", "belongs to another generation")])
    return position


def check_lifetime(lifetime: Duration | None, *, default: timedelta) -> timedelta:
    """Return how long URLs shall work.

    Raises:
        InvalidRequest: it is out of range.
    """
    if lifetime is None:
        return default
    if not _is_within(lifetime, SHORTEST, MAX_URL_LIFETIME):
        raise InvalidRequest([Violation("lifetime", "must be 1 second to 7 days")])
    return lifetime.ToTimedelta()


def check_batch(request: BatchCreateGenerationsRequest) -> None:
    """Check a batch as a whole; its requests are checked one by one.

    Raises:
        InvalidRequest: there are too few or too many, or two have the same request_id.
    """
    violations = Violations()
    size = len(request.requests)
    violations.expect(1 <= size <= MAX_BATCH, "requests", f"must be 1 to {MAX_BATCH}; there are {size:,}")
    violations.raise_any()
    first: dict[str, int] = {}
    for index, request_id in enumerate(one.request_id for one in request.requests):
        earlier = first.setdefault(request_id, index) if request_id else index
        violations.expect(
            earlier == index, f"requests[{index}].request_id", f"must not be that of requests[{earlier}] too"
        )
    violations.raise_any()


def resolve(spec: GenerationSpec, *, request_id: str, models: Mapping[str, Model]) -> GenerationSpec:
    """Check a request and fill in what its spec leaves open; the spec itself stays as it is.

    Raises:
        InvalidRequest: with every offending field.
    """
    violations = Violations()
    violations.expect(
        not request_id or is_token(request_id), "request_id", "must be 1 to 64 letters, digits, `_` and `-`"
    )
    _check_texts(spec, violations)
    check_labels(spec.labels, violations, field="spec.labels")
    _check_output(spec, violations)
    _check_scheduling(spec, violations)
    violations.come_to_the_model()
    model = _find_model(spec, models, violations)
    if model is not None:
        _check_against_model(spec, model, violations)
    violations.raise_any()
    if model is None:
        raise AssertionError("an unknown model is a violation")
    resolved = _fill(spec, model)
    _check_whole(resolved, model, violations)
    violations.raise_any()
    return resolved


def _check_texts(spec: GenerationSpec, violations: Violations) -> None:
    violations.expect(
        spec.prompt.strip() != "" and len(spec.prompt) <= MAX_PROMPT_LENGTH,
        "spec.prompt",
        f"must be 1 to {MAX_PROMPT_LENGTH:,} characters, not only spaces; this one has {len(spec.prompt):,}",
    )
    violations.expect(
        len(spec.negative_prompt) <= MAX_PROMPT_LENGTH,
        "spec.negative_prompt",
        f"must be at most {MAX_PROMPT_LENGTH:,} characters; this one has {len(spec.negative_prompt):,}",
    )
    for name in ("prompt", "negative_prompt"):
        violations.expect("\0" not in getattr(spec, name), f"spec.{name}", "must not contain NUL characters")


def check_labels(labels: Mapping[str, str], violations: Violations, *, field: str) -> None:
    """Check labels, those of a spec or those to look for."""
    violations.expect(len(labels) <= MAX_LABELS, field, f"must be at most {MAX_LABELS}")
    for key, value in sorted(labels.items())[: MAX_LABELS + 1]:
        if not _LABEL_KEY.fullmatch(key):
            violations.expect(False, field, f"key {key[:80]!a} must be 1 to 63 letters, digits, `_`, `-`, `.` and `/`")
            continue
        violations.expect(
            len(value) <= MAX_LABEL_VALUE_LENGTH and "\0" not in value,
            f"{field}[{key}]",
            f"must be at most {MAX_LABEL_VALUE_LENGTH} characters and contain no NUL",
        )


def _check_output(spec: GenerationSpec, violations: Violations) -> None:
    output = spec.output
    known = output.format in ImageFormat.values()
    violations.expect(known, "spec.output.format", f"must be one of {', '.join(ImageFormat.keys()[1:])}")
    if not output.HasField("quality"):
        return
    violations.expect(1 <= output.quality <= 100, "spec.output.quality", "must be 1 to 100")  # noqa: PLR2004
    violations.expect(
        output.format in (ImageFormat.IMAGE_FORMAT_JPEG, ImageFormat.IMAGE_FORMAT_WEBP),
        "spec.output.quality",
        "is for JPEG and WebP only: PNG is lossless",
    )


def _check_scheduling(spec: GenerationSpec, violations: Violations) -> None:
    violations.expect(
        -MAX_PRIORITY <= spec.priority <= MAX_PRIORITY, "spec.priority", f"must be -{MAX_PRIORITY} to {MAX_PRIORITY}"
    )
    if spec.HasField("timeout"):
        violations.expect(_is_within(spec.timeout, SHORTEST, MAX_TIMEOUT), "spec.timeout", "must be 1 second to 7 days")
    if spec.HasField("seed"):
        last = spec.seed + max(1, spec.image_count) - 1
        violations.expect(
            spec.seed >= 0 and last <= MAX_SEED, "spec.seed", "must be 0 to 2^53 - 1, that of the last picture too"
        )


def _find_model(spec: GenerationSpec, models: Mapping[str, Model], violations: Violations) -> Model | None:
    if not models:
        violations.expect(False, "spec.model", "no model is known yet: no worker has reported one")
        return None
    known = ", ".join(sorted(models))
    if not spec.model:
        violations.expect(len(models) == 1, "spec.model", f"must be given, one of: {known}")
        return next(iter(models.values())) if len(models) == 1 else None
    violations.expect(spec.model in models, "spec.model", f"must be one of: {known}")
    return models.get(spec.model)


def _check_against_model(spec: GenerationSpec, model: Model, violations: Violations) -> None:
    for name in ("width", "height", "steps", "image_count"):
        if spec.HasField(name):
            _check_range(getattr(spec, name), getattr(model, name), f"spec.{name}", violations)
    if spec.HasField("guidance_scale"):
        limits = model.guidance_scale
        violations.expect(
            math.isfinite(spec.guidance_scale) and limits.min <= spec.guidance_scale <= limits.max,
            "spec.guidance_scale",
            f"must be {limits.min:g} to {limits.max:g}",
        )
    violations.expect(
        not spec.scheduler or spec.scheduler in model.schedulers,
        "spec.scheduler",
        f"must be one of: {', '.join(model.schedulers)}",
    )
    violations.expect(spec.preview.every_steps >= 0, "spec.preview.every_steps", "must not be negative")
    violations.expect(
        spec.preview.every_steps <= 0 or model.previews, "spec.preview.every_steps", f"{model.name} sends no previews"
    )


def _check_range(value: int, limits: IntRange, field: str, violations: Violations) -> None:
    multiple = max(1, limits.multiple_of)
    what = f"must be {limits.min} to {limits.max}" + (f", a multiple of {multiple}" if multiple > 1 else "")
    violations.expect(limits.min <= value <= limits.max and value % multiple == 0, field, what)


def _fill(spec: GenerationSpec, model: Model) -> GenerationSpec:
    defaults = model.defaults
    resolved = GenerationSpec()
    resolved.CopyFrom(spec)
    resolved.model = model.name
    for name in ("width", "height", "steps", "guidance_scale", "image_count"):
        if not spec.HasField(name):
            setattr(resolved, name, getattr(defaults, name))
    if not spec.HasField("seed"):
        resolved.seed = secrets.randbelow(DRAWN_SEEDS)
    resolved.scheduler = spec.scheduler or defaults.scheduler
    resolved.output.format = spec.output.format or defaults.format or ImageFormat.IMAGE_FORMAT_PNG
    if not spec.output.HasField("quality") and resolved.output.format != ImageFormat.IMAGE_FORMAT_PNG:
        resolved.output.quality = DEFAULT_QUALITY
    if not spec.output.HasField("embed_parameters"):
        resolved.output.embed_parameters = True
    return resolved


def _check_whole(resolved: GenerationSpec, model: Model, violations: Violations) -> None:
    cost = resolved.width * resolved.height * resolved.steps * resolved.image_count
    violations.expect(
        not model.max_pixel_steps or cost <= model.max_pixel_steps,
        "spec",
        f"width x height x steps x image_count is {cost:,}, and {model.name} takes at most {model.max_pixel_steps:,}",
    )


def _is_within(duration: Duration, shortest: timedelta, longest: timedelta) -> bool:
    """Whether a duration is a valid one, which messages do not promise, and within limits of whole seconds."""
    nanos = duration.seconds * NANOS_PER_SECOND + duration.nanos
    return (
        0 <= duration.nanos < NANOS_PER_SECOND
        and shortest.total_seconds() * NANOS_PER_SECOND <= nanos <= longest.total_seconds() * NANOS_PER_SECOND
    )

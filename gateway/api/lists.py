"""What a list may be asked for, and how much goes onto a page."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from easel.subjects import is_token
from easel.v1.generation_messages_pb2 import ListAttemptsRequest, ListGenerationsRequest
from easel.v1.generation_pb2 import FailureReason, GenerationState
from gateway import page_token
from gateway.api.specs import check_labels
from gateway.api.violations import Violations
from gateway.record.generation import State
from gateway.record.listing import Filter

Listed = TypeVar("Listed", bound=Message)

DEFAULT_PAGE_SIZE = 50
DEFAULT_ATTEMPTS_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
MAX_MODELS = 100
#: Clients refuse messages of more than 4 MiB unless told otherwise.
MAX_PAGE_BYTES = 3 * 1024 * 1024

_STATES = {
    number: State(name.removeprefix("GENERATION_STATE_")) for name, number in GenerationState.items() if number > 0
}
_REASONS = {number: name for name, number in FailureReason.items()}


def check_page_size(
    request: ListGenerationsRequest | ListAttemptsRequest, violations: Violations, *, default: int = DEFAULT_PAGE_SIZE
) -> int:
    """Return how many go onto the page at most."""
    violations.expect(0 <= request.page_size <= MAX_PAGE_SIZE, "page_size", f"must be 1 to {MAX_PAGE_SIZE:,}, or 0")
    return request.page_size or default


def check_page_token(request: ListGenerationsRequest, violations: Violations) -> str | None:
    """Return the generation that the page before ended with; None for the first page."""
    if not request.page_token:
        return None
    try:
        return page_token.from_token(request.page_token, filters=filters_of(request))
    except ValueError as error:
        violations.expect(False, "page_token", str(error))
        return None


def check_attempts_page(request: ListAttemptsRequest) -> tuple[int, int]:
    """Return how many attempts go onto the page at most, and the number of the one that the page before ended with.

    Raises:
        InvalidRequest: with every violation.
    """
    violations = Violations()
    page_size = check_page_size(request, violations, default=DEFAULT_ATTEMPTS_PAGE_SIZE)
    after = 0
    if request.page_token:
        try:
            after = page_token.number_from_token(request.page_token, filters=attempts_of(request))
        except ValueError as error:
            violations.expect(False, "page_token", str(error))
    violations.raise_any()
    return page_size, after


def check_filter(request: ListGenerationsRequest, violations: Violations) -> Filter:
    """Return which generations are asked for; it means something only if there are no violations."""
    # As sets: however often one is repeated, it costs once.
    states, reasons = set(request.states), set(request.failure_reasons)
    violations.expect(states <= _STATES.keys(), "states", f"must be out of: {', '.join(_STATES.values())}")
    violations.expect(reasons <= _REASONS.keys(), "failure_reasons", f"must be out of: {', '.join(_REASONS.values())}")
    violations.expect(
        len(request.models) <= MAX_MODELS and all(is_token(model) for model in request.models),
        "models",
        f"must be at most {MAX_MODELS} names, each of 1 to 64 letters, digits, `_` and `-`",
    )
    check_labels(request.labels, violations, field="labels")
    return Filter(
        states=[_STATES[state] for state in sorted(states & _STATES.keys())],
        models=list(request.models),
        failure_reasons=[_REASONS[reason] for reason in sorted(reasons & _REASONS.keys())],
        labels=dict(request.labels),
        created_after=_check_time(request, "created_after", violations),
        created_before=_check_time(request, "created_before", violations),
    )


def filters_of(request: ListGenerationsRequest) -> ListGenerationsRequest:
    """Return the part of a request that must stay the same from page to page."""
    filters = ListGenerationsRequest()
    filters.CopyFrom(request)
    filters.page_size = 0
    filters.page_token = ""
    return filters


def attempts_of(request: ListAttemptsRequest) -> ListAttemptsRequest:
    """Return the part of a request that must stay the same from page to page."""
    return ListAttemptsRequest(id=request.id)


def fit(listed: Iterable[Listed]) -> list[Listed]:
    """Take as many as go into one message, at least one."""
    page: list[Listed] = []
    size = 0
    for one in listed:
        size += one.ByteSize()
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(one)
    return page


def _check_time(request: ListGenerationsRequest, field: str, violations: Violations) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # its stubs want literals
        return None
    timestamp: Timestamp = getattr(request, field)
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        violations.expect(False, field, "must be a time in the years 1 to 9999")
        return None

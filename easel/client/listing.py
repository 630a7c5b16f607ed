"""Which generations to list, and a page of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from easel.v1.generation_messages_pb2 import ListGenerationsRequest
from easel.v1.generation_pb2 import FailureReason, Generation, GenerationState


class Filters(TypedDict, total=False):
    """What to list; all that is given must hold, and without any of it everything is listed."""

    #: In one of these states.
    states: Iterable[GenerationState.ValueType]
    #: Of one of these models.
    models: Iterable[str]
    #: FAILED for one of these reasons.
    failure_reasons: Iterable[FailureReason.ValueType]
    #: With all of these labels, and with these values.
    labels: Mapping[str, str]
    #: Accepted at or after this time, which has a time zone.
    created_after: datetime
    #: Accepted before this time, which has a time zone.
    created_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some generations, newest first, and how to get the next ones."""

    #: Without progress, and their pictures without URLs.
    generations: tuple[Generation, ...]
    #: Asks for the next page, with the same filters; empty on the last one.
    next_page_token: str


def request(filters: Filters, *, page_size: int, page_token: str = "") -> ListGenerationsRequest:
    """Put filters into a request.

    Raises:
        ValueError: a time has no time zone.
    """
    return ListGenerationsRequest(
        page_size=page_size,
        page_token=page_token,
        states=filters.get("states"),
        models=filters.get("models"),
        failure_reasons=filters.get("failure_reasons"),
        labels=filters.get("labels"),
        created_after=_timestamp("created_after", filters.get("created_after")),
        created_before=_timestamp("created_before", filters.get("created_before")),
    )


def _timestamp(name: str, time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{name} has no time zone, so it could mean any of many moments")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp

"""A generation as the record holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from easel.v1.generation_pb2 import GenerationSpec
from gateway.record.documents import Json, from_json


class State(StrEnum):
    """Where a generation stands; the names are those of `easel.v1.GenerationState`."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self not in (State.QUEUED, State.RUNNING)


class Outcome(StrEnum):
    """How an attempt ended; the names are those of `easel.v1.AttemptOutcome`."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    RELEASED = "RELEASED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of state."""

    revision: int
    state: State
    attempt: int
    time: datetime


class Revision(NamedTuple):
    """How far a generation has come."""

    number: int
    #: In which state that is; it never changes, unless the record was restored from a backup.
    state: State


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a caller of the record tells others after its commit: this generation is now in this state."""

    generation_id: str
    revision: int
    state: State
    model: str
    #: Since it was accepted.
    age: timedelta = timedelta()
    #: Of one that became FAILED: the name of its `easel.v1.FailureReason`.
    failure_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A picture in the bucket: the fields of `easel.v1.Image`, and its key."""

    image: Json
    object_key: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One accepted request and all that is known of it."""

    id: str
    owner: str
    request_id: str | None
    model: str
    priority: int
    spec: GenerationSpec
    resolved_spec: GenerationSpec
    state: State
    revision: int
    attempt: int
    progress: Json | None
    images: tuple[StoredImage, ...]
    phase_times: Json | None
    failure: Json | None
    retried_from: str | None
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    deadline_time: datetime | None
    purge_time: datetime | None
    #: When it was deleted: from then on it is a tombstone, with neither specs nor pictures.
    delete_time: datetime | None
    #: The claim that made the current attempt.
    claim_id: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> "Generation":
        """Make one of a row of `generations` with the `progress` of its current attempt."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        fields["spec"] = from_json(row["spec"], GenerationSpec())
        fields["resolved_spec"] = from_json(row["resolved_spec"], GenerationSpec())
        fields["state"] = State(row["state"])
        fields["images"] = tuple(
            StoredImage(image=stored["image"], object_key=stored["object_key"]) for stored in row["images"] or ()
        )
        return cls(**fields)

    def as_of(self, event: Event) -> "Generation":
        """Give the generation as it was right after one of its changes of state."""
        if event.revision == self.revision:
            return self
        return replace(
            self,
            state=event.state,
            revision=event.revision,
            attempt=event.attempt,
            progress=None,
            images=(),
            phase_times=None,
            failure=None,
            start_time=self.start_time if event.attempt else None,
            end_time=None,
        )


@dataclass(frozen=True, kw_only=True)
class StoredAttempt:
    """One attempt at a generation and all that is known of it."""

    number: int
    worker_id: str
    #: None while it is under way, and, with an `end_time`, where a newer gateway wrote one that is not known here.
    outcome: Outcome | None
    failure: Json | None
    progress: Json | None
    #: None where a gateway of an earlier version granted it.
    alone: bool | None
    start_time: datetime
    end_time: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> "StoredAttempt":
        """Make one of a row of `attempts`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        fields["outcome"] = Outcome(row["outcome"]) if row["outcome"] in set(Outcome) else None
        return cls(**fields)

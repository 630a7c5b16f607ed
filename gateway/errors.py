"""What can go wrong, in the words of the domain; `gateway.api.statuses` says what a client sees of each.

`Error`
├── InvalidRequest          some fields are wrong, all of them named
├── GenerationNotFound      no generation of this owner has this id
├── ModelNotFound           there is no model of this name
├── RequestIdConflict       the request_id was used with another spec
├── GenerationDeleted       what the request_id made was deleted
├── GenerationNotFinal      it is not final yet
├── GenerationNotSucceeded  there are no pictures (yet)
├── BacklogFull             too many generations wait for this model
├── TooManyCalls            others came first, for too long
├── DatabaseUnavailable     PostgreSQL is out of reach
├── SlowReader              a watcher does not read what it is sent
└── ShuttingDown            this replica goes away
"""

from collections.abc import Sequence
from dataclasses import dataclass


class Error(Exception):
    """Something a client is told about."""


@dataclass(frozen=True)
class Violation:
    """One field that is wrong, by its path such as `spec.steps`, and what would be right."""

    field: str
    description: str


class InvalidRequest(Error):
    """Some fields are wrong, all of them named."""

    def __init__(self, violations: Sequence[Violation], *, depends_on_model: bool = False) -> None:
        self.violations = tuple(violations)
        #: Whether all of it is about what the model takes, so that it may have been right some time before.
        self.depends_on_model = depends_on_model
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in violations))


class GenerationNotFound(Error):
    """No generation of this owner has this id."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(f"there is no generation {generation_id}")


class ModelNotFound(Error):
    """There is no model of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no model {name!a}")


class RequestIdConflict(Error):
    """The request_id was used with another spec."""

    def __init__(self, request_id: str, *, generation_id: str, fields: Sequence[str]) -> None:
        self.generation_id = generation_id
        self.fields = tuple(fields)
        super().__init__(
            f"request_id {request_id!r} made generation {generation_id} with another spec: {', '.join(fields)} differ"
        )


class GenerationDeleted(Error):
    """What the request_id made was deleted."""

    def __init__(self, request_id: str, *, generation_id: str) -> None:
        self.generation_id = generation_id
        super().__init__(f"request_id {request_id!r} made generation {generation_id}, which was deleted")


class GenerationNotFinal(Error):
    """It is not final yet."""

    def __init__(self, generation_id: str, *, state: str) -> None:
        self.state = state
        super().__init__(f"generation {generation_id} is {state}: wait for its end, or cancel it first")


class GenerationNotSucceeded(Error):
    """There are no pictures (yet)."""

    def __init__(self, generation_id: str, *, state: str) -> None:
        self.state = state
        super().__init__(f"generation {generation_id} is {state}: only a SUCCEEDED one has pictures")


class BacklogFull(Error):
    """Too many generations wait for this model."""

    def __init__(self, model: str, *, backlog: int, wanted: int = 1) -> None:
        room = "as many as may" if wanted == 1 else f"and {wanted} more are too many"
        super().__init__(f"{backlog} generations wait for model {model}, {room}: try again later")


class TooManyCalls(Error):
    """Others came first, for too long."""

    def __init__(self) -> None:
        super().__init__("too many calls of this kind are being answered: try again soon")


class DatabaseUnavailable(Error):
    """PostgreSQL is out of reach."""

    def __init__(self) -> None:
        super().__init__("the database is out of reach: try again soon")


class SlowReader(Error):
    """A watcher does not read what it is sent."""

    def __init__(self, *, timeout_seconds: float) -> None:
        super().__init__(f"nothing was read for {timeout_seconds:g} s: watch again, from the last resume token")


class ShuttingDown(Error):
    """This replica goes away."""

    def __init__(self) -> None:
        super().__init__("this replica shuts down: call again")

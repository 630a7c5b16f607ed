"""The resume token: how far a watcher has come, opaque to clients and good at every replica."""

from dataclasses import dataclass

from gateway import opaque


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a watcher has come in the life of one generation."""

    generation_id: str
    #: The last change of state it saw; 0 before the first.
    revision: int
    #: The attempt and the report of it that it saw last.
    attempt: int = 0
    sequence: int = 0


def to_token(position: Position) -> str:
    """Write a position as a token."""
    return opaque.encode(position.generation_id, position.revision, position.attempt, position.sequence)


def from_token(token: str) -> Position:
    """Read a token.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        generation_id, *numbers = opaque.decode(token)
        revision, attempt, sequence = (int(number) for number in numbers)
    except ValueError as error:
        raise ValueError("not a resume token") from error
    if min(revision, attempt, sequence) < 0:
        raise ValueError("not a resume token")
    return Position(generation_id=generation_id, revision=revision, attempt=attempt, sequence=sequence)

"""The page token: where a page of a list ended, opaque to clients and good at every replica."""

import hashlib
import uuid
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message

from gateway import opaque

_DIGEST_BYTES = 9


Last = TypeVar("Last")


def to_token(last: str | int, *, filters: Message) -> str:
    """Write a token: the page with these filters ended with this generation, or with the attempt of this number."""
    return opaque.encode(last, _digest(filters))


def from_token(token: str, *, filters: Message) -> str:
    """Read a token: the generation that the page before ended with.

    Raises:
        ValueError: it is none of ours, or was given out with other filters.
    """
    return str(_read(token, uuid.UUID, filters=filters))


def number_from_token(token: str, *, filters: Message) -> int:
    """Read a token: the number of the attempt that the page before ended with.

    Raises:
        ValueError: it is none of ours, or was given out with other filters.
    """
    return _read(token, int, filters=filters)


def _read(token: str, read_last: Callable[[str], Last], *, filters: Message) -> Last:
    try:
        text, digest = opaque.decode(token)
        last = read_last(text)
    except ValueError as error:
        raise ValueError("is not a token that this service gave out") from error
    if digest != _digest(filters):
        raise ValueError("was given out with other filters")
    return last


def _digest(filters: Message) -> str:
    return hashlib.blake2b(filters.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()

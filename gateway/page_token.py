"""The page token: where a page of a list ended, opaque to clients and good at every replica."""

import hashlib
import uuid

from google.protobuf.message import Message

from gateway import opaque

_DIGEST_BYTES = 9


def to_token(last_id: str, *, filters: Message) -> str:
    """Write a token: the page with these filters ended with this generation."""
    return opaque.encode(last_id, _digest(filters))


def from_token(token: str, *, filters: Message) -> str:
    """Read a token: the generation that the page before ended with.

    Raises:
        ValueError: it is none of ours, or was given out with other filters.
    """
    try:
        last_id, digest = opaque.decode(token)
        last_id = str(uuid.UUID(last_id))
    except ValueError as error:
        raise ValueError("is not a token that this service gave out") from error
    if digest != _digest(filters):
        raise ValueError("was given out with other filters")
    return last_id


def _digest(filters: Message) -> str:
    return hashlib.blake2b(filters.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()

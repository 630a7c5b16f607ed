"""The page token: where a page of a list ended, opaque to clients and good at every replica."""

import base64
import binascii
import hashlib
import uuid

from google.protobuf.message import Message

_VERSION = "1"
_DIGEST_BYTES = 9


def to_token(last_id: str, *, filters: Message) -> str:
    """Write a token: the page with these filters ended with this generation."""
    text = f"{_VERSION}.{last_id}.{_digest(filters)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def from_token(token: str, *, filters: Message) -> str:
    """Read a token: the generation that the page before ended with.

    Raises:
        ValueError: it is none of ours, or was given out with other filters.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        version, last_id, digest = text.split(".")
        last_id = str(uuid.UUID(last_id))
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not a token that this service gave out") from error
    if version != _VERSION:
        raise ValueError("is not a token that this service gave out")
    if digest != _digest(filters):
        raise ValueError("was given out with other filters")
    return last_id


def _digest(filters: Message) -> str:
    return hashlib.blake2b(filters.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()

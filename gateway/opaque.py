"""Opaque tokens: what they say is for this service alone, and good at every replica."""

import base64
import binascii

_VERSION = "1"


def encode(*parts: object) -> str:
    """Write a token of parts without dots in them."""
    text = ".".join(str(part) for part in (_VERSION, *parts))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(token: str) -> list[str]:
    """Read the parts of a token.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a token of this service") from error
    version, *parts = text.split(".")
    if version != _VERSION:
        raise ValueError("not a token of this version")
    return parts

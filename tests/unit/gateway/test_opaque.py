"""Opaque tokens."""

import base64

import pytest

from gateway import opaque


def test_what_is_written_is_read() -> None:
    assert opaque.decode(opaque.encode("a-b", 7, "")) == ["a-b", "7", ""]


def test_a_token_of_another_version_is_refused() -> None:
    foreign = base64.urlsafe_b64encode(b"2.a-b.7").decode().rstrip("=")
    with pytest.raises(ValueError, match="version"):
        opaque.decode(foreign)


@pytest.mark.parametrize("token", ["x", "ü", "____", "a b"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        opaque.decode(token)

"""Messages of `easel.v1` as the JSON documents that the record keeps, with the names of the .proto file."""

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

#: A protobuf message in its JSON form with the names of the .proto file.
Json = Mapping[str, Any]

AnyMessage = TypeVar("AnyMessage", bound=Message)


def to_json(message: Message) -> dict[str, Any]:
    """Write a message as a document."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def from_json(json: Json, message: AnyMessage) -> AnyMessage:
    """Read a document into a message; fields that this version does not know are left out."""
    return json_format.ParseDict(dict(json), message, ignore_unknown_fields=True)

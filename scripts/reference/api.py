"""The pages of the API: one for each file of `protos/easel/v1`, requests and responses with their service."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from easel.v1.generation_pb2 import GenerationState
from scripts.reference import markdown

PROTOS = Path(__file__).parents[2] / "protos"
FOLDER = "easel/v1"
WELL_KNOWN = "https://protobuf.dev/reference/protobuf/google.protobuf/"

#: The numbers under which parts are found in their wholes, in descriptors and in the comments of a file.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS = VALUES = METHODS = 2

STATES = [name.removeprefix("GENERATION_STATE_") for name in GenerationState.DESCRIPTOR.values_by_name]
#: The statuses of gRPC and the states of generations, unless they are code already.
CONSTANT = re.compile(rf"(?<!`)\b(?:{'|'.join([*(code.name for code in grpc.StatusCode), *STATES])})\b(?!`)")
QUOTED_NAME = re.compile(r"`([A-Z]\w+)(\.\w+)?`")


def pages() -> dict[str, str]:
    """Make the pages, by file name."""
    files = sorted(_describe(), key=lambda file: (_page_of(file), not file.service))
    places = {message.name: _page_of(file) for file in files for message in file.message_type}
    places |= {enum.name: _page_of(file) for file in files for enum in file.enum_type}
    return {name: _page([_File(file, places) for file in group], name) for name, group in groupby(files, key=_page_of)}


def _describe() -> Iterable[FileDescriptorProto]:
    """Have the compiler read the protos, comments and all."""
    sources = sorted(str(file) for file in (PROTOS / FOLDER).glob("*.proto"))
    google = Path(protoc.__file__).parent / "_proto"
    with TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        options = [f"-I{PROTOS}", f"-I{google}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *options, *sources]):
            sys.exit("the protos cannot be read")
        described: FileDescriptorSet = FileDescriptorSet.FromString(out.read_bytes())
        return described.file


def _page_of(file: FileDescriptorProto) -> str:
    return f"{Path(file.name).stem.replace('_messages', '_service')}.md"


def _page(files: list["_File"], name: str) -> str:
    return markdown.page(
        # Not the name of a type, which has a heading of its own.
        files[0].service_name or name.replace(".md", ".proto"),
        *(part for file in files for part in file.parts()),
        source=", ".join(f"protos/{file.name}" for file in files),
    )


class _File:
    """A proto file, and where the types of all files are described."""

    def __init__(self, file: FileDescriptorProto, places: dict[str, str]) -> None:
        self.name = file.name
        self._file = file
        self._places = places
        self._comments = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}

    @property
    def service_name(self) -> str:
        """The name of its service, if it has one."""
        return self._file.service[0].name if self._file.service else ""

    def parts(self) -> Iterator[str]:
        """Describe everything in it."""
        for index, service in enumerate(self._file.service):
            yield from self._service(service, SERVICES, index)
        for index, message in enumerate(self._file.message_type):
            yield from self._message(message, MESSAGES, index)
        for index, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, ENUMS, index)

    def _service(self, service: ServiceDescriptorProto, *path: int) -> Iterator[str]:
        yield markdown.code(f"{self._file.package}.{service.name}")
        yield self._comment(*path)
        for index, method in enumerate(service.method):
            yield f"## {method.name}"
            stream = "stream of " if method.server_streaming else ""
            yield f"{self._link(method.input_type)} → {stream}{self._link(method.output_type)}"
            yield self._comment(*path, METHODS, index)

    def _message(self, message: DescriptorProto, *path: int) -> Iterator[str]:
        yield f"## {message.name}"
        yield self._comment(*path)
        if message.field:
            rows = [
                (markdown.code(field.name), self._type(field, message), self._comment(*path, FIELDS, index))
                for index, field in enumerate(message.field)
            ]
            yield markdown.table(("Field", "Type", "Description"), rows)

    def _enum(self, enum: EnumDescriptorProto, *path: int) -> Iterator[str]:
        yield f"## {enum.name}"
        yield self._comment(*path)
        rows = [
            (markdown.code(value.name), str(value.number), self._comment(*path, VALUES, index))
            for index, value in enumerate(enum.value)
        ]
        yield markdown.table(("Value", "Number", "Description"), rows)

    def _type(self, field: FieldDescriptorProto, message: DescriptorProto) -> str:
        entries = {f".{self._file.package}.{message.name}.{one.name}": one for one in message.nested_type}
        if field.type_name in entries:
            key, value = (self._link_of(one) for one in entries[field.type_name].field)
            return f"map from {key} to {value}"
        text = self._link_of(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"repeated {text}"
        if field.proto3_optional:
            return f"optional {text}"
        if field.HasField("oneof_index"):
            return f"{text}, one of `{message.oneof_decl[field.oneof_index].name}`"
        return text

    def _link_of(self, field: FieldDescriptorProto) -> str:
        if field.type_name:
            return self._link(field.type_name)
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()

    def _link(self, full_name: str) -> str:
        package, _, name = full_name.rpartition(".")
        if package == ".google.protobuf":
            return f"[{name}]({WELL_KNOWN}#{name.lower()})"
        return f"[{name}]({self._place(name)})"

    def _comment(self, *path: int) -> str:
        """Read a comment, with links where it quotes types, and with statuses and states as code."""
        lines = self._comments.get(path, "").splitlines()
        text = "\n".join(line.removeprefix(" ") for line in lines).strip()
        return CONSTANT.sub(r"`\g<0>`", QUOTED_NAME.sub(self._link_name, text))

    def _link_name(self, quoted: "re.Match[str]") -> str:
        name = quoted[1]
        return f"[{quoted[0]}]({self._place(name)})" if name in self._places else quoted[0]

    def _place(self, name: str) -> str:
        page = self._places[name]
        return f"{'' if page == _page_of(self._file) else page}#{name.lower()}"

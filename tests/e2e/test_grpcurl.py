"""Every line with grpcurl out of README.md and docs/grpcurl.md, run as it stands there, and what it prints."""

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from easel.embedded import Stack
from easel.v1 import generation_service_pb2, model_service_pb2

ROOT = Path(__file__).parents[2]
TARGET = "127.0.0.1:50051"
PATIENCE_SECONDS = 60.0
FINAL = {"GENERATION_STATE_SUCCEEDED", "GENERATION_STATE_CANCELLED"}
GENERATIONS = "easel.v1.GenerationService"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

Message = dict[str, Any]


def lines_of(file: str) -> list[str]:
    """Find the lines that begin with grpcurl in the blocks of shell of a document."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("grpcurl")]


def called(line: str) -> str:
    """Tell what a line asks for: the last words after the target."""
    return line.rpartition(f"{TARGET} ")[2]


@dataclass
class Reader:
    """Somebody who pastes the lines, and sets `ID` and `TOKEN` to what was printed."""

    id: str = ""
    token: str = ""
    #: The generation before, once there is another one.
    previous_id: str = ""
    printed: str = ""

    @property
    def variables(self) -> Mapping[str, str]:
        return {"ID": self.id, "TOKEN": self.token}

    @property
    def messages(self) -> list[Message]:
        decoder, rest, found = json.JSONDecoder(object_pairs_hook=_with_names_of_the_protos), self.printed.strip(), []
        while rest:
            message, end = decoder.raw_decode(rest)
            found.append(message)
            rest = rest[end:].strip()
        return found

    @property
    def message(self) -> Message:
        (only,) = self.messages
        return only

    def turn_to(self, generation: Message) -> None:
        self.previous_id, self.id = self.id, generation["id"]


def _with_names_of_the_protos(pairs: list[tuple[str, Any]]) -> Message:
    """Read an object: some versions of grpcurl print `resumeToken`, some `resume_token`."""
    return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value for name, value in pairs}


class Tool(Protocol):
    async def run(self, line: str, variables: Mapping[str, str]) -> str:
        """Run a line, and return all that it prints."""


class Grpcurl:
    """The real one, through a shell."""

    async def run(self, line: str, variables: Mapping[str, str]) -> str:
        environment = {**variables, "PATH": PATH}
        process = await asyncio.create_subprocess_shell(line, env=environment, stdout=PIPE, stderr=STDOUT)
        printed, _ = await process.communicate()
        return printed.decode()


class Reflection:
    """What grpcurl does, for where there is none: messages made of nothing but what reflection tells."""

    async def run(self, line: str, variables: Mapping[str, str]) -> str:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        options = shlex.split(line)[1:]
        assert options.pop(0) == "-plaintext"
        data = options[1] if options[0] == "-d" else "{}"
        target, *what = options[2:] if options[0] == "-d" else options
        return await asyncio.to_thread(self._run, target, what, data)

    def _run(self, target: str, what: list[str], data: str) -> str:
        with grpc.insecure_channel(target) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            if what == ["list"]:
                return "\n".join(database.get_services())
            pool = descriptor_pool.DescriptorPool(database)
            if what[0] == "describe":
                return _describe(pool, what[1])
            service, _, method = what[0].partition("/")
            return _call(channel, pool.FindServiceByName(service).methods_by_name[method], data)


def _describe(pool: descriptor_pool.DescriptorPool, name: str) -> str:
    file = pool.FindFileContainingSymbol(name)
    short = name.rpartition(".")[2]
    if short in file.services_by_name:
        return "\n".join(f"rpc {method.name}" for method in file.services_by_name[short].methods)
    return "\n".join(each.name for each in file.message_types_by_name[short].fields)


def _call(channel: grpc.Channel, method: MethodDescriptor, data: str) -> str:
    request = json_format.Parse(data, message_factory.GetMessageClass(method.input_type)())
    response_type = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    serialize: Callable[[Any], bytes] = type(request).SerializeToString
    call = make(path, request_serializer=serialize, response_deserializer=response_type.FromString)
    try:
        answer: Any = call(request, timeout=PATIENCE_SECONDS)
        answers = list(answer) if method.server_streaming else [answer]
    except grpc.RpcError as error:
        code = error.code().name.title().replace("_", "")
        return f"ERROR:\n  Code: {code}\n  Message: {error.details()}"
    return "\n".join(json_format.MessageToJson(each) for each in answers)


def services_are_listed(reader: Reader) -> None:
    assert set(reader.printed.split()) >= {GENERATIONS, "easel.v1.ModelService", "grpc.health.v1.Health"}


def calls_are_described(reader: Reader) -> None:
    assert {"CreateGeneration", "WatchGeneration"} <= set(re.findall(r"rpc (\w+)", reader.printed))


def fields_are_described(reader: Reader) -> None:
    assert re.search(r"\bnegative_prompt\b", reader.printed)


def models_are_listed(reader: Reader) -> None:
    (model,) = reader.message["models"]
    assert model["name"] == "postcard"
    # More than one where another test killed the worker: it counts as live until it has been silent for long enough.
    assert model["live_workers"] >= 1


def a_model_is_shown(reader: Reader) -> None:
    assert reader.message["model"]["defaults"]["steps"] > 0


def it_is_healthy(reader: Reader) -> None:
    assert reader.message == {"status": "SERVING"}


def a_picture_is_drawn(reader: Reader) -> None:
    first, *_, last = reader.messages
    assert first["generation"]["id"] == last["generation"]["id"]
    assert any("progress" in message for message in reader.messages)
    assert last["generation"]["state"] == "GENERATION_STATE_SUCCEEDED"
    assert last["generation"]["images"][0]["url"].startswith("http://127.0.0.1:")


def both_fields_are_refused(reader: Reader) -> None:
    assert "Code: InvalidArgument" in reader.printed
    assert "spec.steps" in reader.printed
    assert "spec.width" in reader.printed


def one_is_accepted(reader: Reader) -> None:
    generation = reader.message["generation"]
    assert generation["spec"]["prompt"] == "a castle"
    reader.turn_to(generation)


def two_are_accepted(reader: Reader) -> None:
    one, other = reader.message["generations"]
    assert [one["spec"]["prompt"], other["spec"]["prompt"]] == ["a castle", "a boat"]


def it_is_watched_to_its_end(reader: Reader) -> None:
    last = reader.messages[-1]
    assert (last["generation"]["id"], last["generation"]["state"]) == (reader.id, "GENERATION_STATE_SUCCEEDED")
    reader.token = last["resume_token"]


def nothing_comes_twice(reader: Reader) -> None:
    assert reader.message["generation"]["state"] == "GENERATION_STATE_SUCCEEDED"
    assert reader.message["resume_token"] == reader.token


def it_is_looked_up(reader: Reader) -> None:
    assert reader.message["generation"]["id"] == reader.id


def those_that_match_are_listed(reader: Reader) -> None:
    listed = reader.message["generations"]
    assert reader.id in [generation["id"] for generation in listed]
    assert {generation["spec"]["labels"]["team"] for generation in listed} == {"art"}


def urls_are_signed(reader: Reader) -> None:
    (image,) = reader.message["images"]
    assert "X-Amz-Expires=600" in image["url"]


def its_attempts_are_listed(reader: Reader) -> None:
    (attempt,) = reader.message["attempts"]
    assert (attempt["number"], attempt["outcome"]) == (1, "ATTEMPT_OUTCOME_SUCCEEDED")
    assert attempt["end_time"] > attempt["start_time"]


def it_is_retried(reader: Reader) -> None:
    generation = reader.message["generation"]
    assert generation["retried_from"] == reader.id
    reader.turn_to(generation)


def it_is_cancelled(reader: Reader) -> None:
    generation = reader.message["generation"]
    assert generation["id"] == reader.id
    assert generation["state"] in FINAL


def it_is_gone(reader: Reader) -> None:
    assert reader.message == {}


Check = Callable[[Reader], None]

#: What each document asks for, in its order, and what has to come of it.
DOCUMENTS: dict[str, list[tuple[str, Check]]] = {
    "README.md": [
        (f"{GENERATIONS}/Generate", a_picture_is_drawn),
        (f"{GENERATIONS}/CreateGeneration", one_is_accepted),
        (f"{GENERATIONS}/WatchGeneration", it_is_watched_to_its_end),
        ("easel.v1.ModelService/ListModels", models_are_listed),
    ],
    "docs/grpcurl.md": [
        ("list", services_are_listed),
        (f"describe {GENERATIONS}", calls_are_described),
        ("describe easel.v1.GenerationSpec", fields_are_described),
        ("easel.v1.ModelService/ListModels", models_are_listed),
        ("easel.v1.ModelService/GetModel", a_model_is_shown),
        ("grpc.health.v1.Health/Check", it_is_healthy),
        (f"{GENERATIONS}/Generate", a_picture_is_drawn),
        (f"{GENERATIONS}/CreateGeneration", both_fields_are_refused),
        (f"{GENERATIONS}/CreateGeneration", one_is_accepted),
        (f"{GENERATIONS}/BatchCreateGenerations", two_are_accepted),
        (f"{GENERATIONS}/WatchGeneration", it_is_watched_to_its_end),
        (f"{GENERATIONS}/WatchGeneration", nothing_comes_twice),
        (f"{GENERATIONS}/GetGeneration", it_is_looked_up),
        (f"{GENERATIONS}/ListGenerations", those_that_match_are_listed),
        (f"{GENERATIONS}/SignImageUrls", urls_are_signed),
        (f"{GENERATIONS}/ListAttempts", its_attempts_are_listed),
        (f"{GENERATIONS}/RetryGeneration", it_is_retried),
        (f"{GENERATIONS}/CancelGeneration", it_is_cancelled),
        (f"{GENERATIONS}/DeleteGeneration", it_is_gone),
    ],
}


TOOLS: dict[str, Tool] = {"grpcurl": Grpcurl(), "reflection": Reflection()}
WITHOUT_GRPCURL = pytest.mark.skipif(shutil.which("grpcurl", path=PATH) is None, reason="no grpcurl for this machine")


@pytest.mark.parametrize("tool", [pytest.param("grpcurl", marks=WITHOUT_GRPCURL), "reflection"])
@pytest.mark.parametrize("document", DOCUMENTS)
async def test_every_line_does_what_it_says(document: str, tool: str, stack: Stack) -> None:
    lines, expected = lines_of(document), DOCUMENTS[document]
    assert [called(line) for line in lines] == [asked for asked, _ in expected]
    reader = Reader()
    for line, (_, check) in zip(lines, expected, strict=True):
        reader.printed = await TOOLS[tool].run(line.replace(TARGET, stack.target), reader.variables)
        try:
            check(reader)
        except Exception as error:
            raise AssertionError(f"{line}\nprinted\n{reader.printed}") from error


def test_every_call_of_the_api_is_in_the_document() -> None:
    services = [
        *generation_service_pb2.DESCRIPTOR.services_by_name.values(),
        *model_service_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    calls = {f"{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert calls <= {called(line) for line in lines_of("docs/grpcurl.md")}

"""`easel generate` with several prompts."""

import asyncio
import json
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from easel.cli import prompts, several
from easel.cli.generate import make_spec
from easel.cli.main import app
from easel.client import GenerationSpec
from easel.v1.generation_messages_pb2 import BatchCreateGenerationsRequest, WatchGenerationRequest
from easel.v1.generation_pb2 import Failure, FailureReason
from tests.unit.easel.command_line import FILE, drawing, easel, in_a_shell, on_a_terminal, one_line, resolved, start
from tests.unit.easel.scripted import (
    FAILED,
    QUEUED,
    Answer,
    FileServer,
    Script,
    ScriptedServer,
    bad_request,
    numbered,
    preview,
    retry_info,
    says,
    status,
    transition,
)

HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with FileServer(Answer(body=FILE)) as running:
        yield running


def draws_all(files: FileServer, **fields: Any) -> Any:
    def play(request: Any) -> Script:
        script: Script = drawing(files.url(), generation_id=request.id, **fields)
        return script

    return play


def write(folder: Path, *lines: str) -> str:
    (folder / "prompts.txt").write_text("\n".join(lines))
    return "prompts.txt"


def batches(server: ScriptedServer) -> list[Any]:
    return [request for request in server.requests if isinstance(request, BatchCreateGenerationsRequest)]


async def test_each_line_becomes_a_picture(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    server.play = draws_all(files)
    source = write(tmp_path, "# Two of them.", "", "a castle", "  a moat  ")
    outcome = await easel(
        *("generate", "--from", source, "--steps", "9", "--label", "a=b", "--target", server.target), folder=tmp_path
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert len(outcome.stdout.splitlines()) == 2
    for number, prompt in enumerate(["a castle", "a moat"]):
        assert f"drawn out/{numbered(number)}.png {prompt}" in outcome.stdout
        assert (tmp_path / "out" / f"{numbered(number)}.png").read_bytes() == FILE
    [batch] = batches(server)
    expected = [GenerationSpec(prompt=prompt, steps=9, labels={"a": "b"}) for prompt in ("a castle", "a moat")]
    assert [each.spec for each in batch.requests] == expected
    first, second = (each.request_id for each in batch.requests)
    assert (first[-2:], second[-2:]) == ("-0", "-1")
    assert first[:-2] == second[:-2]


async def test_standard_input_and_a_folder(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    server.play = draws_all(files)
    outcome = await easel(
        *("generate", "--from", "-", "--out", "new/folder", "--request-id", "mine", "--target", server.target),
        folder=tmp_path,
        given="ein Schloß\n".encode(),
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert (tmp_path / "new/folder" / f"{numbered(0)}.png").read_bytes() == FILE
    [batch] = batches(server)
    assert [(each.request_id, each.spec.prompt) for each in batch.requests] == [("mine-0", "ein Schloß")]


async def test_json_is_an_object_for_each(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    server.play = draws_all(files, labels={"a": "b"})
    source = write(tmp_path, "a castle", "a moat")
    outcome = await easel("generate", "--from", source, "--json", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    drawn = {each["id"]: each for each in map(json.loads, outcome.stdout.splitlines())}
    assert set(drawn) == {numbered(0), numbered(1)}
    for each in drawn.values():
        assert (each["state"], each["labels"]) == ("SUCCEEDED", {"a": "b"})
        assert (tmp_path / each["images"][0]["path"]).read_bytes() == FILE


async def test_previews_of_each(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    server.play = draws_all(files, between=(preview(step=20, data=b"rough"),))
    source = write(tmp_path, "a castle", "a moat")
    outcome = await easel(
        *("generate", "--from", source, "--preview", "rough", "--target", server.target), folder=tmp_path
    )
    assert outcome.status == 0, outcome.stderr
    for number in range(2):
        assert (tmp_path / "rough" / f"{numbered(number)}-0-20.jpg").read_bytes() == b"rough"
    assert all(each.spec.preview.every_steps == 5 for each in batches(server)[0].requests)


@pytest.mark.parametrize("as_json", [True, False])
async def test_one_that_fails_does_not_stop_the_others(
    server: ScriptedServer, files: FileServer, tmp_path: Path, as_json: bool
) -> None:
    failure = Failure(reason=FailureReason.FAILURE_REASON_INVALID_OUTPUT, message="not a number")

    def play(request: Any) -> Script:
        if request.id in (numbered(1), numbered(3)):
            return says(transition(FAILED, revision=2, id=request.id, failure=failure, resolved_spec=resolved()))
        script: Script = drawing(files.url(), generation_id=request.id)
        return script

    server.play = play
    source = write(tmp_path, "a castle", "a moat", "a keep", "a well")
    extra = ["--json"] if as_json else []
    outcome = await easel("generate", "--from", source, *extra, "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert one_line(outcome.stderr) == "easel: 2 of 4 failed: FAILED: not a number\n"
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {numbered(0), numbered(2)}
    if as_json:
        states = {each["id"]: each["state"] for each in map(json.loads, outcome.stdout.splitlines())}
        ends = ["SUCCEEDED", "FAILED", "SUCCEEDED", "FAILED"]
        assert states == {numbered(number): end for number, end in enumerate(ends)}
    else:
        assert f"failed a moat: generation {numbered(1)} is FAILED: not a number" in outcome.stdout


def refuses(server: ScriptedServer, *prompts: str, with_status: grpc.Status) -> None:
    """Refuse every batch that has one of these prompts in it."""
    accept = server.BatchCreateGenerations

    async def create(request: Any, context: Any) -> Any:
        if any(each.spec.prompt in prompts for each in request.requests):
            server.requests.append(request)
            await context.abort_with_status(with_status)
        return await accept(request, context)

    server.BatchCreateGenerations = create  # type: ignore[method-assign]


TOO_LONG = status(grpc.StatusCode.INVALID_ARGUMENT, "bad", bad_request(**{"requests[0]__spec__prompt": "is too long"}))


async def test_a_refused_prompt_does_not_stop_the_others(
    server: ScriptedServer, files: FileServer, tmp_path: Path
) -> None:
    server.play = draws_all(files)
    refuses(server, "5", with_status=TOO_LONG)
    await server.stop()
    await server.start()
    source = write(tmp_path, *map(str, range(8)))
    outcome = await easel("generate", "--from", source, "--json", "--target", server.target, folder=tmp_path)
    assert outcome.status == 2
    assert one_line(outcome.stderr) == "easel: 1 of 8 failed: prompt: is too long\n"
    told = [json.loads(line) for line in outcome.stdout.splitlines()]
    [refused] = [each for each in told if "error" in each]
    assert (refused["prompt"], refused["request_id"][-2:]) == ("5", "-5")
    assert refused["error"] == "prompt: is too long"
    assert len(told) == 8
    asked = {each.request_id for batch in batches(server) for each in batch.requests}
    assert len(asked) == 8, "asked again with the request_ids of before"


async def test_what_is_wrong_with_all_is_told_once(server: ScriptedServer, tmp_path: Path) -> None:
    server.refusals["BatchCreateGenerations"] = TOO_LONG
    source = write(tmp_path, "a castle", "a moat", "a keep")
    outcome = await easel("generate", "--from", source, "--target", server.target, folder=tmp_path)
    assert outcome.status == 2
    assert one_line(outcome.stderr) == "easel: 3 of 3 failed: prompt: is too long\n"
    assert outcome.stdout.count("failed") == 3


async def test_a_prompt_that_no_service_would_take_is_not_waited_for(
    server: ScriptedServer, files: FileServer, tmp_path: Path
) -> None:
    server.play = draws_all(files)
    too_large = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 1)")
    refuses(server, "5", with_status=too_large)
    await server.stop()
    await server.start()
    source = write(tmp_path, "4", "5")
    outcome = await easel("generate", "--from", source, "--target", server.target, folder=tmp_path)
    assert outcome.status == 2
    assert "1 of 2 failed: Received message larger than max" in one_line(outcome.stderr)


@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["plain", "json"])
async def test_who_reads_no_more_hears_no_complaint(
    server: ScriptedServer, files: FileServer, tmp_path: Path, extra: list[str]
) -> None:
    server.play = draws_all(files)
    source = write(tmp_path, "a castle", "a moat", "a keep")
    command = ["generate", "--from", source, *extra]
    outcome = await in_a_shell("&1 | true", *command, target=server.target, folder=tmp_path)
    assert (outcome.stdout, outcome.stderr) == ("", "")


async def test_a_full_backlog_is_waited_for(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "the backlog is full", retry_info(0.01))
    accept = server.BatchCreateGenerations
    refused = 0

    async def create(request: Any, context: Any) -> Any:
        nonlocal refused
        if len(request.requests) > 1 or refused < 3:
            refused += 1
            await context.abort_with_status(full)
        return await accept(request, context)

    server.BatchCreateGenerations = create  # type: ignore[method-assign]
    await server.stop()
    await server.start()
    server.play = draws_all(files)
    source = write(tmp_path, "a castle", "a moat")
    outcome = await easel("generate", "--from", source, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout.count("waiting: the backlog is full\n") == 1
    assert outcome.stdout.count("drawn") == 2


async def test_so_many_at_once_and_no_more(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    under_way = most = 0

    def play(request: Any) -> Script:
        async def script(context: Any) -> AsyncIterator[Any]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            async for message in drawing(files.url(), generation_id=request.id)(context):
                if message.WhichOneof("event") == "generation" and message.generation.HasField("phase_times"):
                    under_way -= 1
                yield message

        return script

    server.play = play
    source = write(tmp_path, *map(str, range(7)))
    outcome = await easel("generate", "--from", source, "--at-once", "2", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert most == 2
    assert sum(isinstance(request, WatchGenerationRequest) for request in server.requests) == 7


async def test_ctrl_c_says_how_to_get_them_all(server: ScriptedServer, tmp_path: Path) -> None:
    watched = asyncio.Event()

    def play(request: Any) -> Script:
        watched.set()
        return says(transition(QUEUED, revision=1, id=request.id), hang=True)

    server.play = play
    source = write(tmp_path, "a castle", "a moat")
    process = await start("generate", "--from", source, "--target", server.target, folder=tmp_path)
    await watched.wait()
    process.send_signal(signal.SIGINT)
    stdout, stderr = await process.communicate()
    assert (process.returncode, stdout) == (130, b"")
    again = shlex.split(one_line(stderr.decode()).split(": ", 2)[2])
    request_id = batches(server)[0].requests[0].request_id
    assert again == ["easel", "generate", "--from", source, "--target", server.target, "--request-id", request_id[:-2]]


async def test_bars_on_a_terminal(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    server.play = draws_all(files)
    source = write(tmp_path, "a castle", "a moat", "a keep")
    ended, said = await on_a_terminal(["generate", "--from", source, "--target", server.target], folder=tmp_path)
    assert ended == 0
    assert said.count("✔") == 3
    assert "3/3 drawn" in said


async def test_sigterm_leaves_the_terminal_as_it_was(server: ScriptedServer, tmp_path: Path) -> None:
    server.play = lambda request: says(transition(QUEUED, revision=1, id=request.id), hang=True)
    source = write(tmp_path, "a castle", "a moat")
    command = ["generate", "--from", source, "--request-id", "mine", "--target", server.target]
    ended, said = await on_a_terminal(command, folder=tmp_path, terminate_at=b"2 under way")
    assert ended == 143
    assert said.rindex(SHOW_CURSOR) > said.rindex(HIDE_CURSOR)
    assert said.endswith(f"to get the picture: {shlex.join(['easel', *command])}\r\n")


runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from", "nowhere.txt"], "cannot read nowhere.txt: No such file"),
        (["--from", "empty.txt"], "there are no prompts in empty.txt"),
        (["--from", "latin.txt"], "latin.txt is not UTF-8"),
        (["a castle", "--from", "good.txt"], "give either a PROMPT or --from FILE"),
        (["--from", "good.txt", "--out", "castle.png"], "castle.png is a file, and several prompts need a folder"),
        (["--from", "good.txt", "--out", "good.txt"], "good.txt is a file, and several prompts need a folder"),
        (["--from", "good.txt", "--out", "/dev/null/x"], "cannot write into /dev/null/x"),
        (["--from", "good.txt", "--show"], "goes with a single PROMPT"),
        (["--from", "good.txt", "--at-once", "0"], "--at-once"),
        (["a castle", "--preview-every", "3"], "goes with --preview or --show"),
        (["a castle", "--preview", "p", "--preview-every", "0"], "--preview-every"),
        (["a castle", "--label", "nonsense"], "no label such as team=web"),
        (["a castle", "--timeout", "soon"], "no duration"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("a castle")
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "latin.txt").write_bytes("ein Schloß".encode("latin-1"))
    result = runner.invoke(app, ["generate", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in one_line(result.stderr)


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "notepad.txt").write_bytes("\ufeffa castle\r\na moat\r\n".encode())
    assert prompts.read(tmp_path / "notepad.txt") == ["a castle", "a moat"]


def test_only_a_new_line_begins_a_new_prompt(tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes("a\u2028castle\r\na\vmoat\na\x1ckeep\x85\n".encode())
    assert prompts.read(tmp_path / "odd.txt") == ["a\u2028castle", "a\vmoat", "a\x1ckeep"]


def jobs(count: int, *, length: int = 10) -> list[several.Job]:
    return [several.Job(make_spec(prompt="x" * length), f"mine-{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("count", "length", "expected"),
    [(1, 10, [1]), (100, 10, [100]), (250, 10, [100, 100, 50]), (100, 16_000, [56, 44]), (2, 2_000_000, [1, 1])],
)
def test_batches_are_as_large_as_the_service_takes(count: int, length: int, expected: list[int]) -> None:
    made = jobs(count, length=length)
    cut = list(several.batches(made))
    assert [len(batch) for batch in cut] == expected
    assert [job for batch in cut for job in batch] == made

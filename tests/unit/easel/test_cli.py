import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from easel import __version__
from easel.cli.main import app
from easel.cli.run import status_of
from easel.client import errors
from easel.v1.generation_pb2 import Failure, FailureReason, GenerationSpec, ImageFormat, OutputSpec, PreviewSpec
from easel.v1.model_service_pb2 import ListModelsResponse
from tests.unit.easel.command_line import FILE, Outcome, drawing, easel, in_a_shell, one_line, resolved, start
from tests.unit.easel.scripted import (
    FAILED,
    ID,
    QUEUED,
    Answer,
    FileServer,
    ScriptedServer,
    bad_request,
    error_info,
    preview,
    retry_info,
    says,
    status,
    transition,
)


async def test_from_a_prompt_to_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert (tmp_path / "out" / f"{ID}.png").read_bytes() == FILE
    lines = outcome.stdout.splitlines()
    assert lines[:3] == ["a castle", "tiny · 64x64 · 20 steps · guidance 7.5 · seed 7", "Untrained."]
    assert "queued 2 ahead" in lines
    assert lines == [line.rstrip() for line in lines]
    assert len([line for line in lines if line.startswith("denoising ")]) < 3
    assert outcome.stderr == ""
    for fact in (ID, f"out/{ID}.png", "denoising 1.5 s"):
        assert fact in " ".join(outcome.stdout.split())


async def test_every_option_reaches_the_spec(server: ScriptedServer, tmp_path: Path) -> None:
    arguments = "--model tiny --steps 20 --seed 0 --width 64 --height 128 --guidance 0 --negative fog --scheduler ddim"
    arguments += " --count 2 --format webp --quality 80 --no-metadata --timeout 1.5 --priority -3 --request-id mine"
    arguments += " --label team=web --label url=a=b --preview previews --preview-every 4 --out castle.webp"
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url("0"), files.url("1")))
        target = {"EASEL_TARGET": server.target}
        outcome = await easel("generate", "a castle", *arguments.split(), folder=tmp_path, environment=target)
    assert outcome.status == 0, outcome.stderr
    request: Any = server.requests[-1]
    expected = GenerationSpec(
        model="tiny",
        prompt="a castle",
        negative_prompt="fog",
        width=64,
        height=128,
        steps=20,
        guidance_scale=0,
        seed=0,
        image_count=2,
        scheduler="ddim",
        output=OutputSpec(format=ImageFormat.IMAGE_FORMAT_WEBP, quality=80, embed_parameters=False),
        preview=PreviewSpec(every_steps=4),
        priority=-3,
        labels={"team": "web", "url": "a=b"},
    )
    expected.timeout.FromMilliseconds(1500)
    assert request.spec == expected
    assert request.request_id == "mine"
    assert (tmp_path / "castle-0.webp").read_bytes() == (tmp_path / "castle-1.webp").read_bytes() == FILE


async def test_what_is_not_given_is_not_sent(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        await easel("generate", "a castle", "--target", server.target, "--out", ".", folder=tmp_path)
    request: Any = server.requests[-1]
    assert request.spec == GenerationSpec(prompt="a castle")
    assert (tmp_path / f"{ID}.png").exists()


async def test_json_is_one_object_and_nothing_else(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("generate", "a castle", "--json", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    result = json.loads(outcome.stdout)
    assert (result["id"], result["state"], result["seed"], result["failure"]) == (ID, "SUCCEEDED", 7, None)
    assert result["phase_seconds"]["denoising"] == 1.5
    assert result["wall_seconds"] == round(result["wall_seconds"], 6)
    [image] = result["images"]
    assert (tmp_path / image["path"]).read_bytes() == FILE
    assert image["seed"] == 7


async def test_a_broken_stream_is_mended_and_told_of_in_passing(server: ScriptedServer, tmp_path: Path) -> None:
    unavailable = (grpc.StatusCode.UNAVAILABLE, "shutting down")
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.extend([says(transition(QUEUED, revision=1), then=unavailable), drawing(files.url())])
        outcome = await easel("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert "reconnecting: shutting down\nback again\n" in outcome.stdout


async def test_what_the_service_says_of_a_break_is_told_in_full(server: ScriptedServer, tmp_path: Path) -> None:
    reason = error_info("ERROR_REASON_SHUTTING_DOWN")
    leaving = status(grpc.StatusCode.UNAVAILABLE, "this replica stops: call again", reason)
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.extend([says(transition(QUEUED, revision=1), then=leaving), drawing(files.url())])
        outcome = await easel("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert "reconnecting: this replica stops: call again\n" in outcome.stdout


@pytest.mark.parametrize("command", [["get", ID], ["list"], ["cancel", ID], ["--help"]], ids=lambda command: command[0])
async def test_an_output_that_takes_no_more(server: ScriptedServer, tmp_path: Path, command: list[str]) -> None:
    outcome = await in_a_shell("/dev/full", *command, target=server.target, folder=tmp_path)
    assert outcome == Outcome(1, "", "easel: No space left on device\n")


async def test_streams_that_are_closed(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await in_a_shell("&- <&-", "delete", ID, target=server.target, folder=tmp_path)
    assert outcome == Outcome(0, "", "")
    outcome = await in_a_shell("&- <&-", "generate", "--from", "-", target=server.target, folder=tmp_path)
    assert outcome.status == 2
    assert "there are no prompts in -" in one_line(outcome.stderr)


async def test_an_output_that_knows_few_characters(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        target, ascii_only = {"EASEL_TARGET": server.target}, {"PYTHONIOENCODING": "ascii"}
        outcome = await easel("generate", "a castle", folder=tmp_path, environment=target | ascii_only)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "tiny ? 64x64" in outcome.stdout


@pytest.mark.parametrize(
    "command", [["generate", "caf\udce9"], ["get", "\udcff"], ["list", "--label", "a=\udcff"]], ids=lambda each: each[0]
)
async def test_arguments_that_are_not_utf_8(server: ScriptedServer, tmp_path: Path, command: list[str]) -> None:
    outcome = await easel(*command, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert one_line(outcome.stderr).endswith("is not UTF-8\n")


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_failed_generation(server: ScriptedServer, tmp_path: Path, as_json: bool) -> None:
    failure = Failure(reason=FailureReason.FAILURE_REASON_OUT_OF_MEMORY, message="too little memory", retryable=False)
    server.scripts.append(says(transition(FAILED, revision=2, resolved_spec=resolved(), failure=failure)))
    outcome = await easel(
        "generate", "a castle", "--target", server.target, *(["--json"] if as_json else []), folder=tmp_path
    )
    assert outcome.status == 1
    assert f"generation {ID} is FAILED: too little memory" in one_line(outcome.stderr)
    if as_json:
        expected = {"reason": "OUT_OF_MEMORY", "message": "too little memory", "retryable": False}
        assert json.loads(outcome.stdout)["failure"] == expected


async def test_an_invalid_request_names_every_field_in_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    violations = bad_request(spec__steps="must be 1 to 150", spec__width="must be a multiple of 8")
    server.scripts.append(says(then=status(grpc.StatusCode.INVALID_ARGUMENT, "bad", violations)))
    outcome = await easel("generate", "a castle", "--steps", "999", "--target", server.target, folder=tmp_path)
    assert outcome.status == 2
    assert outcome.stderr == "easel: steps: must be 1 to 150; width: must be a multiple of 8\n"


async def test_a_full_backlog_says_when_to_come_back(server: ScriptedServer, tmp_path: Path) -> None:
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "the backlog is full", retry_info(7))
    server.scripts.append(says(then=full))
    outcome = await easel("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert outcome.status == 3
    assert outcome.stderr == "easel: the backlog is full (try again in 7 s)\n"


async def test_previews_are_written_as_they_come(server: ScriptedServer, tmp_path: Path) -> None:
    shown = (preview(step=5, data=b"rough"), preview(step=5, image_index=1, data=b"other"), preview(step=10))
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url(), between=shown))
        outcome = await easel(
            "generate", "a castle", "--preview", "new/previews", "--json", "--target", server.target, folder=tmp_path
        )
    assert outcome.status == 0, outcome.stderr
    written = [f"new/previews/{ID}-{name}.jpg" for name in ("0-5", "1-5", "0-10")]
    assert json.loads(outcome.stdout)["previews"] == written
    assert [(tmp_path / path).read_bytes() for path in written] == [b"rough", b"other", b"preview"]
    request: Any = server.requests[-1]
    assert request.spec.preview.every_steps == 5


async def test_a_preview_that_cannot_be_written(server: ScriptedServer, tmp_path: Path) -> None:
    play = drawing("http://127.0.0.1:1/0", between=(preview(step=5),))

    async def script(context: Any) -> AsyncIterator[Any]:
        (tmp_path / "previews").rmdir()
        async for message in play(context):
            yield message

    server.scripts.append(script)
    outcome = await easel("generate", "a castle", "--preview", "previews", "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert f"generation {ID} goes on, but previews/{ID}-0-5.jpg cannot be written" in one_line(outcome.stderr)


async def test_a_file_that_cannot_be_written(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        arguments = ("generate", "a castle", "--target", server.target, "--out", "file/castle.png")
        outcome = await easel(*arguments, folder=tmp_path)
    assert outcome.status == 2
    assert "cannot write file/castle.png" in one_line(outcome.stderr)
    assert ".part" not in outcome.stderr
    assert server.requests == []


async def test_a_folder_that_vanishes_while_it_is_drawn(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        play = drawing(files.url())

        async def script(context: Any) -> AsyncIterator[Any]:
            (tmp_path / "new").rmdir()
            (tmp_path / "new").write_bytes(b"")
            async for message in play(context):
                yield message

        server.scripts.append(script)
        arguments = ("generate", "a castle", "--target", server.target, "--out", "new/castle.png")
        outcome = await easel(*arguments, folder=tmp_path)
    assert outcome.status == 1
    assert f"generation {ID} is drawn, but new/castle.png cannot be written" in one_line(outcome.stderr)


@pytest.mark.parametrize(
    ("out", "sent"),
    [("q.jpg", "JPEG"), ("q.JPEG", "JPEG"), ("q.png", "PNG"), ("q.webp", "WEBP"), ("q.v1", "UNSPECIFIED")],
)
async def test_the_suffix_chooses_the_format(server: ScriptedServer, tmp_path: Path, out: str, sent: str) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("generate", "a castle", "--target", server.target, "--out", out, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    request: Any = server.requests[-1]
    assert request.spec.output.format == ImageFormat.Value(f"IMAGE_FORMAT_{sent}")
    assert (tmp_path / out).read_bytes() == FILE


async def test_the_suffix_of_a_folder_chooses_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "v1.jpg").mkdir()
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        await easel("generate", "a castle", "--target", server.target, "--out", "v1.jpg", folder=tmp_path)
    request: Any = server.requests[-1]
    assert not request.spec.HasField("output")
    assert (tmp_path / "v1.jpg" / f"{ID}.png").exists()


async def test_a_name_that_nothing_answers_to(tmp_path: Path) -> None:
    outcome = await easel("models", "--target", "nonsense.invalid", folder=tmp_path)
    assert outcome.status == 3
    assert re.search(r"answers at nonsense.invalid \([^][]+\):", one_line(outcome.stderr))


async def test_another_file_than_was_stored(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE.upper())) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert "SHA-256" in one_line(outcome.stderr)


async def test_ctrl_c_leaves_the_generation_alone_and_says_how_to_get_the_picture(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.scripts.append(says(transition(QUEUED, revision=1, resolved_spec=resolved()), hang=True))
    process = await start("generate", "a castle", "--seed", "7", "--target", server.target, folder=tmp_path)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()
    assert process.returncode == 130
    again = shlex.split(one_line(stderr.decode()).split("get the picture: ")[1])
    request: Any = server.requests[-1]
    expected = ["easel", "generate", "a castle", "--seed", "7", "--target", server.target]
    assert again == [*expected, "--request-id", request.request_id]
    assert not any(type(each).__name__ == "CancelGenerationRequest" for each in server.requests)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_other_signals_end_it_like_ctrl_c(server: ScriptedServer, tmp_path: Path, number: int) -> None:
    server.scripts.append(says(transition(QUEUED, revision=1, resolved_spec=resolved()), hang=True))
    process = await start("generate", "a castle", "--target", server.target, folder=tmp_path)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(number)
    _, stderr = await process.communicate()
    assert process.returncode == 143
    assert "the service goes on; to get the picture: easel generate" in one_line(stderr.decode())


async def test_nohup_holds(server: ScriptedServer, tmp_path: Path) -> None:
    hung_up = asyncio.Event()
    async with FileServer(Answer(body=FILE)) as files:
        play = drawing(files.url())

        async def script(context: Any) -> AsyncIterator[Any]:
            yield transition(QUEUED, revision=1, resolved_spec=resolved())
            await hung_up.wait()
            async for message in play(context):
                yield message

        server.scripts.append(script)
        process = await asyncio.create_subprocess_exec(
            *("nohup", sys.executable, "-m", "easel", "generate", "a castle", "--target", server.target),
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        hung_up.set()
        await process.communicate()
    assert process.returncode == 0


async def test_models_are_listed(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await easel("models", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0
    for fact in ("tiny", "Untrained.", "64x64", "64-512 by 8", "7.5", "pndm", "ddim", "at most 16,384,000"):
        assert fact in outcome.stdout
    assert outcome.stdout.splitlines() == [line.rstrip() for line in outcome.stdout.splitlines()]


async def test_models_for_machines(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await easel("models", "--json", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0
    [model] = json.loads(outcome.stdout)["models"]
    assert (model["name"], model["defaults"]["steps"]) == ("tiny", 50)
    assert (model["max_pixel_steps"], model["previews"]) == (16_384_000, False)


async def test_one_model(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await easel("models", "tiny", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "Untrained." in outcome.stdout
    assert server.requests[-1].name == "tiny"  # type: ignore[attr-defined]


async def test_an_unknown_model(server: ScriptedServer, tmp_path: Path) -> None:
    missing = status(grpc.StatusCode.NOT_FOUND, "there is no model 'x'", error_info("ERROR_REASON_MODEL_NOT_FOUND"))
    server.refusals["GetModel"] = missing
    outcome = await easel("models", "x", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (2, "easel: there is no model 'x'\n")


async def test_no_models_yet(server: ScriptedServer, tmp_path: Path) -> None:
    server.models = ListModelsResponse()
    outcome = await easel("models", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0
    assert outcome.stdout.startswith("No model is known yet")


runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generate"], "give either a PROMPT or --from FILE"),
        (["generate", "a", "castle"], "castle"),
        (["generate", "a castle", "--steps", "many"], "--steps"),
        (["generate", "a castle", "--format", "gif"], "--format"),
        (["generate", "a castle", "--nonsense"], "--nonsense"),
        (["generate", "a castle", "--format", "jpeg", "--out", "q.png"], "q.png names a png file"),
        (["generate", "a castle", "--out", "/dev/null"], "/dev/null is no file"),
        (["generate", "a castle", "--out", "x" * 250 + ".png"], "File name too long"),
        (["demo", "--out", "/dev/null/x.png"], "cannot write /dev/null/x.png"),
        (["generate", "a castle", "--priority", "9" * 13], "Value out of range: 9999999999999"),
        (["generate", "a castle", "--seed", "9" * 30], "Value out of range: 999"),
        (["generate", "a castle", "--target", ""], "'' is no address such as"),
        (["draw"], "draw"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], complaint: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert complaint in one_line(result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["nothing", "--help"])
def test_help_lists_the_commands_and_the_exit_statuses(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    commands = "generate models demo watch get list cancel delete retry url up gateway worker migrate doctor"
    for word in (*commands.split(), "Exit status"):
        assert word in result.stdout


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"easel {__version__}\n")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["up", "--port", str(port), "--data", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert f"port {port} is taken" in one_line(result.stderr)
    assert "--port" in result.stderr


def test_to_observe_without_prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easel.embedded.prometheus.is_installed", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["up", "--observe", "--port", str(port), "--data", str(tmp_path / "data")])
    missing, taken_too = result.stderr.splitlines()
    assert "Prometheus is not installed here, so nothing observes the service." in missing
    # It goes on without.
    assert f"port {port} is taken" in taken_too


@pytest.mark.parametrize(
    ("command", "executed"),
    [
        (["gateway"], ["gateway"]),
        (["gateway", "migrate", "--x"], ["gateway", "migrate", "--x"]),
        (["worker", "--x"], ["inference", "--x"]),
        (["migrate"], ["gateway", "migrate"]),
    ],
)
def test_services_take_over_the_process_with_their_arguments(
    monkeypatch: pytest.MonkeyPatch, command: list[str], executed: list[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: seen.append(arguments))
    runner.invoke(app, command)
    assert seen == [[sys.executable, "-P", "-m", *executed]]


@pytest.mark.parametrize(
    ("command", "extra"),
    [("worker", "inference"), ("gateway", "gateway"), ("migrate", "gateway"), ("up", "local"), ("demo", "local")],
)
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, command: str, extra: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = runner.invoke(app, [command])
    assert result.exit_code == 2
    assert f"pip install 'easel[{extra}]'" in one_line(result.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("easel ge", {"generate", "get"}),
        ("easel list --st", {"--state"}),
        ("easel list --state s", {"succeeded"}),
        ("easel generate --show-as ", {"kitty", "sixel", "blocks"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(words: str, expected: set[str]) -> None:
    asked = {"_EASEL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    finished = subprocess.run(
        [sys.executable, "-m", "easel"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert set(finished.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed(tmp_path: Path, shell: str) -> None:
    # Typer asks for the shell that it runs below: one that is called so.
    (tmp_path / shell).symlink_to("/bin/sh")
    for what, expected in (("--show-completion", "_EASEL_COMPLETE"), ("--install-completion", "completion installed")):
        finished = subprocess.run(
            [tmp_path / shell, "-c", f"{sys.executable} -m easel {what}; exit $?"],
            env={**os.environ, "HOME": str(tmp_path), "SHELL": f"/bin/{shell}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in finished.stdout
    assert any("_EASEL_COMPLETE" in path.read_text() for path in tmp_path.rglob("*easel*") if path.is_file())


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["list", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = "import sys; from easel.cli.main import app\n"
    script += f"try: app({arguments})\nexcept SystemExit: print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(finished.stdout.splitlines()[-1].split())
    assert "easel.cli.main" in loaded
    assert loaded.isdisjoint({"grpc", "google.protobuf", "torch", "sqlalchemy", "httpx2", "nats", "minio", "PIL"})


def test_every_error_of_the_client_has_an_exit_status_of_its_meaning() -> None:
    wrong = (errors.InvalidRequest, errors.NotFound, errors.Conflict, errors.FailedPrecondition)
    refused = (*wrong, errors.Denied, errors.Unsupported)
    away = (errors.Exhausted, errors.Unavailable, errors.DeadlineExceeded)
    for kind in {*errors.BY_STATUS.values(), *errors.BY_REASON.values()}:
        expected = 2 if issubclass(kind, refused) else 3 if issubclass(kind, away) else 1
        assert status_of(kind()) == expected

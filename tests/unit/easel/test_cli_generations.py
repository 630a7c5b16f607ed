"""The commands on generations that are there already."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from easel.cli.arguments import Reason, State
from easel.cli.main import app
from easel.v1.generation_messages_pb2 import ListAttemptsResponse, ListGenerationsRequest, ListGenerationsResponse
from easel.v1.generation_pb2 import (
    Attempt,
    AttemptOutcome,
    Failure,
    FailureReason,
    Generation,
    GenerationState,
    Phase,
    Progress,
)
from tests.unit.easel.command_line import FILE, drawing, easel, on_a_terminal, one_line, resolved
from tests.unit.easel.scripted import (
    FAILED,
    ID,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Answer,
    FileServer,
    ScriptedServer,
    bad_request,
    error_info,
    numbered,
    picture,
    preview,
    progress,
    retry_info,
    says,
    status,
    transition,
)

COMMANDS: dict[str, list[str]] = {
    "watch": ["watch", ID],
    "get": ["get", ID],
    "list": ["list"],
    "attempts": ["attempts", ID],
    "cancel": ["cancel", ID],
    "delete": ["delete", ID],
    "retry": ["retry", ID],
    "retry --no-wait": ["retry", ID, "--no-wait"],
    "retry --failure": ["retry", "--failure", "storage"],
    "url": ["url", ID],
    "models": ["models"],
    "models NAME": ["models", "tiny"],
    "generate": ["generate", "a castle"],
}


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_nobody_there(server: ScriptedServer, tmp_path: Path) -> None:
    await server.stop()
    # All at once, since each waits in vain for seconds.
    commands = [*COMMANDS.values(), ["watch", ID, "--json"]]
    outcomes = await asyncio.gather(
        *(easel(*command, "--target", server.target, folder=tmp_path) for command in commands)
    )
    for command, outcome in zip(commands, outcomes, strict=True):
        assert (outcome.status, outcome.stdout) == (3, ""), command
        assert f"no service answers at {server.target}" in one_line(outcome.stderr), command


#: The call that each command makes for its id.
CALLS = {
    "watch": "WatchGeneration",
    "get": "GetGeneration",
    "attempts": "ListAttempts",
    "cancel": "CancelGeneration",
    "delete": "DeleteGeneration",
    "retry": "RetryGeneration",
    "retry --no-wait": "RetryGeneration",
    "url": "SignImageUrls",
}
REFUSALS: dict[str, tuple[grpc.StatusCode, str, Any]] = {
    "no id": (grpc.StatusCode.INVALID_ARGUMENT, "id: must be the UUID of a generation", None),
    "unknown": (grpc.StatusCode.NOT_FOUND, f"there is no generation {ID}", "GENERATION_NOT_FOUND"),
    "too early": (grpc.StatusCode.FAILED_PRECONDITION, f"generation {ID} is RUNNING", "GENERATION_NOT_FINAL"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("name", CALLS)
async def test_a_refusal_is_told_in_one_line(
    server: ScriptedServer, tmp_path: Path, name: str, refusal: tuple[grpc.StatusCode, str, str | None]
) -> None:
    code, message, reason = refusal
    detail = error_info(f"ERROR_REASON_{reason}") if reason else bad_request(id=message.removeprefix("id: "))
    server.refusals[CALLS[name]] = status(code, message, detail)
    outcome = await easel(*COMMANDS[name], "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr == f"easel: {message}\n"


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_defect_of_the_service_is_told_in_one_line(server: ScriptedServer, tmp_path: Path, name: str) -> None:
    defect = status(grpc.StatusCode.INTERNAL, "internal error", error_info("ERROR_REASON_INTERNAL"))
    server.refusals = dict.fromkeys([*CALLS.values(), "ListGenerations", "ListModels", "GetModel", "Generate"], defect)
    outcome = await easel(*COMMANDS[name], "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert outcome.stderr == "easel: internal error\n"


def drawn(*urls: str, **fields: Any) -> Generation:
    images = [picture(FILE, url=url, index=index) for index, url in enumerate(urls)]
    made = Generation(id=ID, state=SUCCEEDED, revision=3, attempt_count=1, images=images, resolved_spec=resolved())
    made.MergeFrom(Generation(**fields))
    made.create_time.FromJsonString("2026-01-02T03:04:05Z")
    made.end_time.FromJsonString("2026-01-02T03:04:08.5Z")
    return made


async def test_watch_shows_progress_and_downloads_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    server.scripts.append(drawing("http://127.0.0.1:1/0.png"))
    outcome = await easel("watch", ID, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    assert lines[0] == "a castle"
    assert "queued 2 ahead" in lines
    assert "downloading" not in lines
    assert f"easel url {ID}" in outcome.stdout
    assert files_in(tmp_path) == set()
    assert server.requests[-1].id == ID  # type: ignore[attr-defined]


async def test_watch_downloads_where_it_is_told_to(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("watch", ID, "--out", "castle.png", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert (tmp_path / "castle.png").read_bytes() == FILE
    assert "castle.png" in outcome.stdout


async def test_watch_for_machines_prints_everything_that_happens(server: ScriptedServer, tmp_path: Path) -> None:
    server.scripts.append(drawing("http://127.0.0.1:1/0.png", between=(preview(step=20, data=b"rough"),)))
    outcome = await easel("watch", ID, "--json", "--preview", "previews", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    events = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert all(event["id"] == ID for event in events)
    assert [event["state"] for event in events if event["event"] == "state"] == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert events[1]["queue_position"] == 2
    assert [event["step"] for event in events if event["event"] == "progress"][2:22] == list(range(1, 21))
    [seen] = [event for event in events if event["event"] == "preview"]
    assert (seen["step"], seen["image_index"], seen["size_bytes"]) == (20, 0, 5)
    assert (tmp_path / seen["path"]).read_bytes() == b"rough"
    assert seen["path"] == f"previews/{ID}-0-20.jpg"
    assert events[-1]["images"][0]["url"] == "http://127.0.0.1:1/0.png"
    assert events[-1]["resume_token"] == "r3"


async def test_watch_for_machines_downloads_where_it_is_told_to(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url()))
        outcome = await easel("watch", ID, "--json", "--out", "q.png", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    [image] = json.loads(outcome.stdout.splitlines()[-1])["images"]
    assert image["path"] == "q.png"
    assert "url" not in image
    assert (tmp_path / "q.png").read_bytes() == FILE


@pytest.mark.parametrize("as_json", [True, False])
async def test_watching_a_failure_is_a_failure(server: ScriptedServer, tmp_path: Path, as_json: bool) -> None:
    failure = Failure(reason=FailureReason.FAILURE_REASON_STORAGE, message="the bucket is gone")
    server.scripts.append(says(transition(FAILED, revision=2, failure=failure, resolved_spec=resolved())))
    extra = ["--json"] if as_json else []
    outcome = await easel("watch", ID, *extra, "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert one_line(outcome.stderr) == f"easel: generation {ID} is FAILED: the bucket is gone\n"
    if as_json:
        assert json.loads(outcome.stdout)["failure"]["reason"] == "STORAGE"


async def test_get_tells_everything(server: ScriptedServer, tmp_path: Path) -> None:
    other = ID.replace("0001", "0002")
    server.generation = drawn("http://127.0.0.1:1/0.png", retried_from=other)
    spec = server.generation.resolved_spec
    spec.negative_prompt, spec.scheduler, spec.priority = "fog", "ddim", 5
    spec.labels["team"] = "web"
    outcome = await easel("get", ID, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    facts = dict(re.findall(r"^(\w+(?: \w+)?) {2,}(.+)$", outcome.stdout, re.MULTILINE))
    assert facts["state"] == "SUCCEEDED"
    assert (facts["prompt"], facts["negative"], facts["labels"]) == ("a castle", "fog", "team=web")
    assert (facts["size"], facts["steps"], facts["seed"], facts["priority"]) == ("64x64", "20", "7", "5")
    assert facts["took"] == "3.5 s"
    assert facts["retry of"] == other


async def test_get_of_one_that_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    server.generation = Generation(id=ID, state=RUNNING, revision=2, attempt_count=2, resolved_spec=resolved())
    server.generation.progress.CopyFrom(progress(7, step_seconds=0.5).progress)
    outcome = await easel("get", ID, "--target", server.target, folder=tmp_path)
    assert re.search(r"^progress +denoising 7/20 · 0.50 s/step$", outcome.stdout, re.MULTILINE)
    assert re.search(rf"^attempts +2  easel attempts {ID}$", outcome.stdout, re.MULTILINE)
    assert "ended" not in outcome.stdout


async def test_get_of_a_failure(server: ScriptedServer, tmp_path: Path) -> None:
    failure = Failure(reason=FailureReason.FAILURE_REASON_OUT_OF_MEMORY, message="too little")
    server.generation = Generation(id=ID, state=FAILED, failure=failure, resolved_spec=resolved())
    outcome = await easel("get", ID, "--target", server.target, folder=tmp_path)
    assert outcome.status == 0
    assert re.search(r"^failure +OUT_OF_MEMORY: too little$", outcome.stdout, re.MULTILINE)


async def test_get_for_machines(server: ScriptedServer, tmp_path: Path) -> None:
    server.generation = drawn("http://127.0.0.1:1/0.png")
    outcome = await easel("get", ID, "--json", "--target", server.target, folder=tmp_path)
    got = json.loads(outcome.stdout)
    assert (got["id"], got["state"], got["seed"], got["prompt"]) == (ID, "SUCCEEDED", 7, "a castle")
    assert (got["create_time"], got["start_time"]) == ("2026-01-02T03:04:05Z", None)
    assert got["images"][0]["url"] == "http://127.0.0.1:1/0.png"


async def test_get_downloads_where_it_is_told_to(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.generation = drawn(files.url("0"), files.url("1"))
        outcome = await easel("get", ID, "--out", "castle.png", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert files_in(tmp_path) == {"castle-0.png", "castle-1.png"}
    assert "castle-1.png" in outcome.stdout


async def test_there_is_nothing_to_download_of_one_that_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    server.generation = Generation(id=ID, state=RUNNING, resolved_spec=resolved())
    outcome = await easel("get", ID, "--out", "castle.png", "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert one_line(outcome.stderr) == f"easel: generation {ID} is RUNNING\n"


async def test_a_prompt_cannot_write_on_the_terminal(server: ScriptedServer, tmp_path: Path) -> None:
    evil = "a castle\x1b]0;gotcha\x07\x1b[2J"
    server.generation = Generation(id=ID, state=QUEUED, resolved_spec=resolved(prompt=evil))
    server.pages = [ListGenerationsResponse(generations=[server.generation])]
    server.scripts.append(drawing("http://127.0.0.1:1/0.png", prompt=evil))
    for command in (["get", ID], ["list"], ["watch", ID]):
        outcome = await easel(*command, "--target", server.target, folder=tmp_path)
        assert "a castle" in outcome.stdout
        assert not {"\x1b", "\x07"} & set(outcome.stdout)


async def test_url_prints_each_in_a_line(server: ScriptedServer, tmp_path: Path) -> None:
    server.signed = [picture(FILE, url=f"http://127.0.0.1:1/{'x' * 200}{index}", index=index) for index in range(2)]
    outcome = await easel("url", ID, "--lifetime", "2h", "--target", server.target, folder=tmp_path)
    assert outcome.stdout.splitlines() == [image.url for image in server.signed]
    assert server.requests[-1].lifetime.seconds == 7200  # type: ignore[attr-defined]
    await easel("url", ID, "--lifetime", "0", "--target", server.target, folder=tmp_path)
    assert server.requests[-1].lifetime == Duration()  # type: ignore[attr-defined]  # for the service to refuse


async def test_url_for_machines(server: ScriptedServer, tmp_path: Path) -> None:
    server.signed = [picture(FILE, url="http://127.0.0.1:1/0")]
    server.signed[0].url_expire_time.CopyFrom(Timestamp(seconds=1_767_323_045))
    outcome = await easel("url", ID, "--json", "--target", server.target, folder=tmp_path)
    signed = json.loads(outcome.stdout)
    assert signed["id"] == ID
    assert signed["images"][0]["url"] == "http://127.0.0.1:1/0"
    assert signed["images"][0]["url_expire_time"] == "2026-01-02T03:04:05Z"
    assert not server.requests[-1].HasField("lifetime")


async def test_retry_draws_the_new_one(server: ScriptedServer, tmp_path: Path) -> None:
    new = ID.replace("0001", "0002")
    server.generation = Generation(id=new, state=QUEUED, retried_from=ID)
    async with FileServer(Answer(body=FILE)) as files:
        server.scripts.append(drawing(files.url(), generation_id=new))
        outcome = await easel("retry", ID, "--request-id", "mine", "--target", server.target, folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert (tmp_path / "out" / f"{new}.png").read_bytes() == FILE
    _, retried, watched = server.requests
    assert (retried.id, retried.request_id) == (ID, "mine")  # type: ignore[attr-defined]
    assert watched.id == new  # type: ignore[attr-defined]


async def test_retry_does_not_wait_when_it_shall_not(server: ScriptedServer, tmp_path: Path) -> None:
    new = ID.replace("0001", "0002")
    server.generation = Generation(id=new, state=QUEUED, retried_from=ID, resolved_spec=resolved())
    outcome = await easel("retry", ID, "--no-wait", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, f"{new}\n")
    outcome = await easel("retry", ID, "--no-wait", "--json", "--target", server.target, folder=tmp_path)
    accepted = json.loads(outcome.stdout)
    assert (accepted["id"], accepted["retried_from"], accepted["state"]) == (new, ID, "QUEUED")


def dead_letters(count: int) -> list[ListGenerationsResponse]:
    """Make a list of so many, the newest first as in all lists."""
    return [ListGenerationsResponse(generations=[Generation(id=numbered(n)) for n in reversed(range(count))])]


async def test_retry_of_all_that_failed_for_a_reason(server: ScriptedServer, tmp_path: Path) -> None:
    server.pages = dead_letters(3)
    server.generation = Generation(id=ID, state=QUEUED)
    arguments = "retry --failure dead-letter --failure storage --model tiny --label a=b --after 2026-01-02T03:04:05Z"
    outcome = await easel(*arguments.split(), "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines() == [f"retried {numbered(n)} as {ID}" for n in range(3)]
    listed, *retried = server.requests
    assert isinstance(listed, ListGenerationsRequest)
    assert (list(listed.models), dict(listed.labels)) == (["tiny"], {"a": "b"})
    assert list(listed.failure_reasons) == [
        FailureReason.FAILURE_REASON_DEAD_LETTER,
        FailureReason.FAILURE_REASON_STORAGE,
    ]
    assert listed.created_after.ToJsonString() == "2026-01-02T03:04:05Z"
    assert [(one.id, one.request_id) for one in retried] == [  # type: ignore[attr-defined]
        (numbered(n), f"retry-{numbered(n)}") for n in range(3)
    ]


async def test_retry_of_all_again_asks_for_the_same(server: ScriptedServer, tmp_path: Path) -> None:
    server.pages = dead_letters(1)
    server.generation = Generation(id=ID, state=SUCCEEDED)
    for _ in range(2):
        outcome = await easel("retry", "--failure", "dead-letter", "--target", server.target, folder=tmp_path)
        assert outcome.stdout == f"retried {numbered(0)} as {ID} (SUCCEEDED already)\n"
    assert server.requests[1] == server.requests[3]


async def test_retry_of_all_for_machines(server: ScriptedServer, tmp_path: Path) -> None:
    server.pages = dead_letters(2)
    server.generation = Generation(id=ID, state=QUEUED, retried_from=numbered(0))
    arguments = ["retry", "--failure", "dead-letter", "--json", "--target", server.target]
    outcome = await easel(*arguments, folder=tmp_path)
    first, _ = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert (first["id"], first["retried_from"]) == (ID, numbered(0))
    assert first["request_id"] == f"retry-{numbered(0)}"
    server.pages = dead_letters(0)
    assert (await easel(*arguments, folder=tmp_path)).stdout == ""
    assert (await easel(*arguments[:3], *arguments[4:], folder=tmp_path)).stdout == "Nothing is found.\n"


async def test_retry_of_all_goes_on_after_one_that_fails_and_stops_where_there_is_no_room(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.pages = dead_letters(4)
    server.generation = Generation(id=ID, state=QUEUED)
    refused = status(grpc.StatusCode.NOT_FOUND, "not there")
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", error_info("ERROR_REASON_BACKLOG_FULL"), retry_info(5))

    async def refuse(request: Message, context: Any) -> None:
        what = {numbered(0): refused, numbered(2): full}.get(getattr(request, "id", ""))
        if what is not None:
            await context.abort_with_status(what)

    server._refuse = refuse  # type: ignore[method-assign]
    outcome = await easel("retry", "--failure", "storage", "--target", server.target, folder=tmp_path)
    assert outcome.status == 3
    assert outcome.stdout == f"retried {numbered(1)} as {ID}\n"
    assert outcome.stderr == f"easel: {numbered(0)}: not there\neasel: full (try again in 5 s)\n"


@pytest.mark.parametrize(
    ("answer", "ending", "retried"),
    [(b"n\n", 1, 0), (b"y\n", 0, 2), (b"", 0, 2)],
    ids=["no", "yes", "--yes"],
)
async def test_retry_of_all_asks_on_a_terminal(
    server: ScriptedServer, tmp_path: Path, answer: bytes, ending: int, retried: int
) -> None:
    server.pages = dead_letters(2)
    extra = [] if answer else ["--yes"]
    ended, said = await on_a_terminal(
        ["retry", "--failure", "dead-letter", *extra, "--target", server.target], folder=tmp_path, answer=answer
    )
    assert ended == ending
    assert ("Retry 2 generations?" in said) == (not extra)
    assert len(server.requests) == 1 + retried
    assert ("nothing was retried" in said) == (ending == 1)


def attempt(number: int, **fields: Any) -> Attempt:
    made = Attempt(number=number, worker_id="gpu-1-0a1b2c3d", **fields)
    made.start_time.FromJsonString("2026-01-02T03:04:05Z")
    if made.outcome:
        made.end_time.FromJsonString("2026-01-02T03:04:08.5Z")
    return made


ATTEMPTS = ListAttemptsResponse(
    attempts=[
        attempt(
            1,
            outcome=AttemptOutcome.ATTEMPT_OUTCOME_LOST,
            alone=False,
            progress=Progress(attempt=1, phase=Phase.PHASE_DENOISING, step=2, steps=4),
        ),
        attempt(
            2,
            outcome=AttemptOutcome.ATTEMPT_OUTCOME_FAILED,
            alone=True,
            failure=Failure(
                reason=FailureReason.FAILURE_REASON_INTERNAL, message="the worker failed: \x1bKeyError", retryable=True
            ),
        ),
        attempt(3),
    ]
)


async def test_attempts_are_a_table_of_what_became_of_them(server: ScriptedServer, tmp_path: Path) -> None:
    server.attempts = [ATTEMPTS]
    outcome = await easel("attempts", ID, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    first, second, third = outcome.stdout.splitlines()[3:6]
    worker = "gpu-1-0a1b2c3d"
    assert re.search(rf"1 +LOST +\d+ d +3.5 s +{worker} +denoising 2/4 · its worker died, hung or was cut off$", first)
    assert re.search(rf"2 +FAILED alone +\d+ d +3.5 s +{worker} +INTERNAL: the worker failed: \ufffdKeyError$", second)
    assert re.search(rf"3 +RUNNING +\d+ d +\d+ min \d+ s +{worker}$", third)
    assert server.requests[-1].id == ID  # type: ignore[attr-defined]


async def test_before_the_first_attempt(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await easel("attempts", ID, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, "No worker has started on it yet.\n")
    outcome = await easel("attempts", ID, "--json", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, "")


async def test_attempts_for_machines(server: ScriptedServer, tmp_path: Path) -> None:
    server.attempts = [ATTEMPTS]
    outcome = await easel("attempts", ID, "--json", "--target", server.target, folder=tmp_path)
    first, second, third = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [one["number"] for one in (first, second, third)] == [1, 2, 3]
    assert (first["id"], first["outcome"], first["alone"], first["failure"]) == (ID, "LOST", False, None)
    assert first["progress"]["step"] == 2
    assert (first["start_time"], first["end_time"]) == ("2026-01-02T03:04:05Z", "2026-01-02T03:04:08.500Z")
    assert second["failure"] == {
        "reason": "INTERNAL",
        "message": "the worker failed: \x1bKeyError",
        "retryable": True,
    }
    assert (third["outcome"], third["alone"], third["end_time"], third["progress"]) == (None, None, None, None)


async def test_cancel_says_what_became_of_each(server: ScriptedServer, tmp_path: Path) -> None:
    server.generation = Generation(id=ID, state=GenerationState.GENERATION_STATE_CANCELLED)
    outcome = await easel("cancel", ID, "--target", server.target, folder=tmp_path)
    assert outcome.stdout == f"cancelled {ID}\n"
    server.generation = Generation(id=ID, state=SUCCEEDED)
    outcome = await easel("cancel", ID, "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, f"unchanged {ID} (SUCCEEDED already)\n")
    outcome = await easel("cancel", ID, "--json", "--target", server.target, folder=tmp_path)
    assert json.loads(outcome.stdout)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("command", ["cancel", "delete"])
async def test_one_that_fails_does_not_stop_the_others(server: ScriptedServer, tmp_path: Path, command: str) -> None:
    server.generation.state = GenerationState.GENERATION_STATE_CANCELLED
    server.unary_errors.append(status(grpc.StatusCode.NOT_FOUND, "not there"))
    outcome = await easel(command, "first", "second", "--target", server.target, folder=tmp_path)
    assert outcome.status == 2
    assert outcome.stdout == {"cancel": "cancelled second\n", "delete": "deleted second\n"}[command]
    assert one_line(outcome.stderr) == "easel: first: not there\n"


async def test_different_failures_have_no_status_in_common(server: ScriptedServer, tmp_path: Path) -> None:
    server.unary_errors.append(status(grpc.StatusCode.NOT_FOUND, "not there"))
    server.unary_errors.append(status(grpc.StatusCode.INTERNAL, "broken", error_info("ERROR_REASON_INTERNAL")))
    outcome = await easel("cancel", "first", "second", "--target", server.target, folder=tmp_path)
    assert outcome.status == 1
    assert outcome.stderr == "easel: first: not there\neasel: second: broken\n"


async def test_delete_asks_nobody_where_no_terminal_is(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await easel("delete", ID, "--immediately", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, f"deleted {ID}\n")
    assert server.requests[-1].immediately  # type: ignore[attr-defined]
    outcome = await easel("delete", ID, "--json", "--target", server.target, folder=tmp_path)
    assert json.loads(outcome.stdout) == {"id": ID, "deleted": True}
    assert not server.requests[-1].immediately  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "ending", "deleted"),
    [(b"n\n", 1, 0), (b"\n", 1, 0), (b"y\n", 0, 2), (b"", 0, 2), (b"\x03", 130, 0)],
    ids=["no", "enter", "yes", "--yes", "Ctrl-C"],
)
async def test_delete_asks_on_a_terminal(
    server: ScriptedServer, tmp_path: Path, answer: bytes, ending: int, deleted: int
) -> None:
    extra = [] if answer else ["--yes"]
    ended, said = await on_a_terminal(
        ["delete", "first", "second", *extra, "--target", server.target], folder=tmp_path, answer=answer
    )
    assert ended == ending
    assert ("Delete 2 generations and their pictures, for good?" in said) == (not extra)
    assert len(server.requests) == deleted
    assert ("nothing was deleted" in said) == (ending == 1)


async def test_list_is_a_table_of_what_matters(server: ScriptedServer, tmp_path: Path) -> None:
    failure = Failure(reason=FailureReason.FAILURE_REASON_DEAD_LETTER, message="lost")
    server.pages = [
        ListGenerationsResponse(
            generations=[
                Generation(id=ID, state=FAILED, failure=failure, resolved_spec=resolved()),
                drawn(resolved_spec=resolved(prompt="x" * 200)),
            ]
        )
    ]
    outcome = await easel("list", "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    first, second = [line for line in outcome.stdout.splitlines() if ID in line]
    assert re.search(rf"{ID} +FAILED dead letter +tiny +\d+ d +a castle", first)
    assert second.endswith("x…")
    assert len(second) < 180
    assert outcome.stdout.splitlines() == [line.rstrip() for line in outcome.stdout.splitlines()]


async def test_every_filter_reaches_the_service(server: ScriptedServer, tmp_path: Path) -> None:
    arguments = "--state failed --state queued --model tiny --model other --failure storage --label a=b --label c="
    arguments += " --after 2026-01-02T03:04:05Z --before 2026-01-03T00:00+02:00 --limit 7"
    outcome = await easel("list", *arguments.split(), "--target", server.target, folder=tmp_path)
    assert (outcome.status, outcome.stdout) == (0, "Nothing is found.\n")
    request: Any = server.requests[-1]
    assert list(request.states) == [FAILED, QUEUED]
    assert list(request.models) == ["tiny", "other"]
    assert list(request.failure_reasons) == [FailureReason.FAILURE_REASON_STORAGE]
    assert dict(request.labels) == {"a": "b", "c": ""}
    assert request.created_after.ToJsonString() == "2026-01-02T03:04:05Z"
    assert request.created_before.ToJsonString() == "2026-01-02T22:00:00Z"
    assert request.page_size == 8


async def test_what_is_not_given_filters_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    await easel("list", "--target", server.target, folder=tmp_path)
    request: Any = server.requests[-1]
    assert {field.name for field, _ in request.ListFields()} == {"page_size"}


def pages(*sizes: int) -> list[ListGenerationsResponse]:
    made = [
        ListGenerationsResponse(generations=[drawn() for _ in range(size)], next_page_token=str(number))
        for number, size in enumerate(sizes, start=1)
    ]
    made[-1].next_page_token = ""
    return made


@pytest.mark.parametrize(
    ("limit", "listed", "hints"), [("2", 2, True), ("5", 5, False), ("6", 5, False), ("0", 5, False)]
)
async def test_the_limit(server: ScriptedServer, tmp_path: Path, limit: str, listed: int, hints: bool) -> None:
    server.pages = pages(2, 2, 1)
    outcome = await easel("list", "--limit", limit, "--target", server.target, folder=tmp_path)
    assert outcome.stdout.count(ID) == listed
    assert (f"more than these {limit}" in outcome.stdout) == hints
    outcome = await easel("list", "--limit", limit, "--json", "--target", server.target, folder=tmp_path)
    assert [json.loads(line)["id"] for line in outcome.stdout.splitlines()] == [ID] * listed


async def test_who_reads_no_more_of_a_list_hears_no_complaint(server: ScriptedServer, tmp_path: Path) -> None:
    server.pages = pages(*[100] * 30)
    script = f"{sys.executable} -m easel list --json --limit 0 --target {server.target} | head -1"
    process = await asyncio.create_subprocess_shell(
        script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await process.communicate()
    assert json.loads(stdout)["id"] == ID
    assert stderr == b""


runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["get"], "ID"),
        (["list", "--state", "asleep"], "--state"),
        (["list", "--failure", "fate"], "--failure"),
        (["list", "--label", "team"], "'team' is no label such as team=web"),
        (["list", "--label", "=web"], "'=web' is no label such as team=web"),
        (["list", "--after", "yesterday"], "'yesterday' is no moment such as 2h (ago)"),
        (["list", "--limit", "-1"], "--limit"),
        (["url", ID, "--lifetime", "long"], "'long' is no duration such as 90, 10min, 2h or 7d"),
        (["get", ID, "--show", "--json"], "pictures and JSON do not go together"),
        (["get", ID, "--show"], "no terminal that could be asked; --show-as says how"),
        (["watch", ID, "--preview", "/dev/null/x"], "cannot write into /dev/null/x"),
        (["delete"], "ID"),
        (["attempts"], "ID"),
        (["retry"], "give either an ID or --failure REASON"),
        (["retry", ID, "--failure", "storage"], "give either an ID or --failure REASON"),
        (["retry", "--model", "tiny"], "give either an ID or --failure REASON"),
        (["retry", ID, "--model", "tiny"], "--model: goes with --failure"),
        (["retry", ID, "--yes"], "--yes: goes with --failure"),
        (["retry", "--failure", "storage", "--out", "x.png"], "--out: goes with a single ID"),
        (["retry", "--failure", "storage", "--request-id", "x"], "--request-id: goes with a single ID"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], complaint: str) -> None:
    result = runner.invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in one_line(result.stderr)


def test_states_and_reasons_are_those_of_the_api() -> None:
    def names(kind: Any) -> set[str]:
        prefix = kind.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return {value.name.removeprefix(prefix).lower().replace("_", "-") for value in kind.DESCRIPTOR.values[1:]}

    assert set(State) == names(GenerationState)
    assert set(Reason) == names(FailureReason)

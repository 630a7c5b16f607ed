"""The command line and the client against the whole service."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from easel.client import Client, Deleted, GenerationSpec, GenerationState, InvalidRequest, NotFinal, NotFound
from easel.embedded import Stack
from tests.unit.easel.command_line import Outcome, easel

LARGE = GenerationSpec(prompt="a castle", width=256, height=256, steps=200)


async def run(stack: Stack, folder: Path, *arguments: str, **more: Any) -> Outcome:
    """Run a command that succeeds."""
    outcome = await easel(*arguments, "--target", stack.target, folder=folder, **more)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return outcome


async def test_a_life_on_the_command_line(stack: Stack, tmp_path: Path) -> None:
    label = f"test={tmp_path.name}"
    options = ("--steps", "4", "--label", label, "--out", "drawn")
    outcome = await run(stack, tmp_path, "generate", "--from", "-", *options, "--json", given=b"a castle\na moat\n")
    drawn = {each["prompt"]: each for each in map(json.loads, outcome.stdout.splitlines())}
    assert set(drawn) == {"a castle", "a moat"}
    for each in drawn.values():
        with Image.open(tmp_path / each["images"][0]["path"]) as picture:
            assert picture.format == "PNG"
    castle, moat = drawn["a castle"]["id"], drawn["a moat"]["id"]

    outcome = await run(stack, tmp_path, "list", "--label", label, "--state", "succeeded", "--after", "1h", "--json")
    assert [json.loads(line)["id"] for line in outcome.stdout.splitlines()] == [moat, castle]
    outcome = await run(stack, tmp_path, "list", "--label", label, "--before", "1h")
    assert outcome.stdout == "Nothing is found.\n"

    outcome = await run(stack, tmp_path, "get", castle, "--out", "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / drawn["a castle"]["images"][0]["path"]).read_bytes()
    assert "SUCCEEDED" in outcome.stdout
    outcome = await run(stack, tmp_path, "url", castle, "--lifetime", "1min")
    assert outcome.stdout.startswith("http")
    outcome = await run(stack, tmp_path, "watch", castle)
    assert castle in outcome.stdout

    outcome = await run(stack, tmp_path, "retry", castle, "--json")
    retried = json.loads(outcome.stdout)
    assert (retried["retried_from"], retried["labels"], retried["state"]) == (
        castle,
        {"test": tmp_path.name},
        "SUCCEEDED",
    )

    outcome = await run(stack, tmp_path, "cancel", castle)
    assert outcome.stdout == f"unchanged {castle} (SUCCEEDED already)\n"
    outcome = await run(stack, tmp_path, "delete", castle, moat, "--immediately")
    assert outcome.stdout == f"deleted {castle}\ndeleted {moat}\n"
    outcome = await easel("get", castle, "--target", stack.target, folder=tmp_path)
    assert (outcome.status, outcome.stderr) == (2, f"easel: there is no generation {castle}\n")


async def test_the_same_command_again_draws_nothing_twice(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a castle\na moat\n")
    command = ("generate", "--from", "prompts.txt", "--steps", "2", "--request-id", tmp_path.name, "--json")
    ids = []
    for _ in range(2):
        outcome = await run(stack, tmp_path, *command)
        ids.append({json.loads(line)["id"] for line in outcome.stdout.splitlines()})
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


async def test_one_prompt_that_is_wrong_among_many(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a castle\n" + "x" * 5000 + "\na moat\n")
    command = ("generate", "--from", "prompts.txt", "--steps", "2", "--target", stack.target)
    outcome = await easel(*command, folder=tmp_path)
    assert outcome.status == 2
    assert outcome.stderr.startswith("easel: 1 of 3 failed: prompt: ")
    assert len(list_files(tmp_path / "out")) == 2


def list_files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_doctor_who_finds_everything_well(stack: Stack, tmp_path: Path) -> None:
    environment = {**stack.servers.environment(user="gateway"), "EASEL_MODEL": stack.model}
    outcome = await run(stack, tmp_path, "doctor", "--json", environment=environment)
    found = {each["check"]: each["verdict"] for each in map(json.loads, outcome.stdout.splitlines())}
    expected = [
        "service",
        "model postcard",
        "gateway: PostgreSQL",
        "gateway: schema",
        "gateway: NATS",
        "gateway: JetStream",
    ]
    expected += ["gateway: S3", "gateway: signed URLs", "gateway: clock", "worker: model", "worker: NATS", "worker: S3"]
    assert {check: found.get(check) for check in expected} == dict.fromkeys(expected, "ok")


async def test_a_list_goes_on_while_others_ask(client: Client, tmp_path: Path) -> None:
    labels = {"test": tmp_path.name}
    spec = GenerationSpec(prompt="a castle", steps=1, labels=labels)
    before = [generation.id for generation in await client.batch_create([spec] * 5)]
    listed = []
    async for generation in client.list(page_size=2, labels=labels):
        listed.append(generation.id)
        await client.create(spec)
    assert listed == before[::-1]


async def test_a_batch_is_all_or_nothing(client: Client, tmp_path: Path) -> None:
    labels = {"test": tmp_path.name}
    good, bad = (GenerationSpec(prompt="a castle", steps=steps, labels=labels) for steps in (1, 100_000))
    with pytest.raises(InvalidRequest) as raised:
        await client.batch_create([good, bad])
    assert [violation.field for violation in raised.value.violations] == ["requests[1].spec.steps"]
    assert [generation async for generation in client.list(labels=labels)] == []
    ids = [f"{tmp_path.name}-{number}" for number in range(2)]
    first = await client.batch_create([good, good], request_ids=ids)
    again = await client.batch_create([good, good], request_ids=ids)
    assert [generation.id for generation in first] == [generation.id for generation in again]


async def test_what_goes_on_cannot_be_deleted_nor_tried_again(client: Client) -> None:
    generation = await client.create(LARGE)
    with pytest.raises(NotFinal) as raised:
        await client.delete(generation.id)
    assert raised.value.state in ("QUEUED", "RUNNING", "GENERATION_STATE_QUEUED", "GENERATION_STATE_RUNNING")
    with pytest.raises(NotFinal):
        await client.retry(generation.id)
    cancelled = await client.cancel(generation.id)
    assert cancelled.state == GenerationState.GENERATION_STATE_CANCELLED
    await client.delete(generation.id)
    await client.delete(generation.id)
    with pytest.raises(NotFound):
        await client.get(generation.id)


async def test_what_was_deleted_is_not_drawn_again(client: Client, tmp_path: Path) -> None:
    spec = GenerationSpec(prompt="a castle", steps=1)
    generation = await client.create(spec, request_id=tmp_path.name)
    await client.cancel(generation.id)
    await client.delete(generation.id)
    with pytest.raises(Deleted) as raised:
        await client.create(spec, request_id=tmp_path.name)
    assert raised.value.generation_id == generation.id


async def test_previews_come_while_it_is_drawn(client: Client) -> None:
    [model] = await client.list_models()
    if not model.previews:
        pytest.skip("this model sends none")
    spec = GenerationSpec(prompt="a castle", width=256, height=256, steps=60)
    spec.preview.every_steps = 2
    previews = []
    async with asyncio.timeout(60):
        async for event in client.generate(spec):
            previews += [event.preview] if event.preview is not None else []
    assert previews
    assert [preview.step for preview in previews] == sorted(preview.step for preview in previews)
    assert all(preview.data.startswith(b"\xff\xd8") for preview in previews)


async def test_one_model(client: Client) -> None:
    assert (await client.get_model("postcard")).live_workers == 1
    with pytest.raises(NotFound):
        await client.get_model("nowhere")

"""Previews the whole way: a real worker draws, and a client looks on."""

import io
from pathlib import Path

from PIL import Image

from easel.client import Client
from easel.embedded import Stack
from easel.v1.generation_pb2 import GenerationSpec, PreviewSpec
from tests.e2e.test_bad_luck import assert_one_picture

STEPS = 100


async def test_a_client_sees_the_picture_before_it_is_done(client: Client, stack: Stack, tmp_path: Path) -> None:
    spec = GenerationSpec(prompt="a castle", steps=STEPS, seed=7, preview=PreviewSpec(every_steps=2))

    events = [event async for event in client.generate(spec)]

    shown = [event for event in events if event.preview is not None]
    assert len(shown) > 1
    steps = []
    for event in shown:
        assert event.preview is not None
        assert (event.preview.attempt, event.preview.image_index) == (1, 0)
        with Image.open(io.BytesIO(event.preview.data)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (64, 64))
        steps.append(event.preview.step)
    assert steps == sorted(set(steps))
    assert all(step % 2 == 0 and 0 < step < STEPS for step in steps)
    # Progress goes out first: each step that is shown was told before.
    for position, event in enumerate(events):
        if event.preview is not None:
            told = [one.progress.step for one in events[:position] if one.progress is not None]
            assert max(told) >= event.preview.step
    await assert_one_picture(client, stack, events[-1].generation, tmp_path)


async def test_a_client_that_did_not_ask_sees_none(client: Client) -> None:
    events = [event async for event in client.generate(GenerationSpec(prompt="a castle", steps=STEPS, seed=7))]

    assert events[-1].is_final
    assert all(event.preview is None for event in events)


async def test_asking_for_previews_changes_no_bit_of_the_picture(client: Client) -> None:
    hashes = []
    for every_steps in (0, 1):
        spec = GenerationSpec(prompt="a castle", steps=30, seed=7, preview=PreviewSpec(every_steps=every_steps))
        spec.output.embed_parameters = False
        events = [event async for event in client.generate(spec)]
        hashes.append(events[-1].generation.images[0].sha256)

    assert hashes[0] == hashes[1] != ""

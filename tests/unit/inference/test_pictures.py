import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from easel.v1.generation_pb2 import ImageFormat, OutputSpec
from inference import pictures
from inference.pictures import MAX_PREVIEW_BYTES, Encoder, NotEncodable, PictureFile, encode, encode_preview

PNG = ImageFormat.IMAGE_FORMAT_PNG
JPEG = ImageFormat.IMAGE_FORMAT_JPEG
WEBP = ImageFormat.IMAGE_FORMAT_WEBP

PIXELS = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PARAMETERS = {"prompt": 'a "castle" in 雨\n', "seed": 2**53 - 1, "guidance_scale": 7.5}


def opened(file: PictureFile) -> Image.Image:
    image = Image.open(io.BytesIO(file.data))
    image.load()
    return image


def embedded(file: PictureFile) -> str | None:
    image = opened(file)
    text = image.info.get("parameters") if file.extension == "png" else image.getexif().get(0x010E)
    assert text is None or isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("format_", "name", "content_type", "extension"),
    [
        (PNG, "PNG", "image/png", "png"),
        (JPEG, "JPEG", "image/jpeg", "jpg"),
        (WEBP, "WEBP", "image/webp", "webp"),
        (ImageFormat.IMAGE_FORMAT_UNSPECIFIED, "PNG", "image/png", "png"),
    ],
)
def test_a_file_is_what_it_says(format_: "ImageFormat.ValueType", name: str, content_type: str, extension: str) -> None:
    file = encode(PIXELS, OutputSpec(format=format_), PARAMETERS)

    assert opened(file).format == name
    assert (file.content_type, file.extension) == (content_type, extension)
    assert (file.width, file.height) == opened(file).size == (64, 48)
    assert file.sha256 == hashlib.sha256(file.data).hexdigest()


def test_png_is_lossless() -> None:
    assert np.array_equal(np.asarray(opened(encode(PIXELS, OutputSpec(format=PNG), PARAMETERS))), PIXELS)


@pytest.mark.parametrize("format_", [JPEG, WEBP])
def test_quality_counts(format_: "ImageFormat.ValueType") -> None:
    sizes = [len(encode(PIXELS, OutputSpec(format=format_, quality=quality), {}).data) for quality in (1, 50, 100)]

    assert sizes == sorted(sizes)
    assert sizes[0] * 2 < sizes[2]
    assert len(encode(PIXELS, OutputSpec(format=format_), {}).data) == len(
        encode(PIXELS, OutputSpec(format=format_, quality=90), {}).data
    )


@pytest.mark.parametrize("format_", [PNG, JPEG, WEBP])
def test_the_file_carries_its_parameters_unless_told_not_to(format_: "ImageFormat.ValueType") -> None:
    text = embedded(encode(PIXELS, OutputSpec(format=format_), PARAMETERS))

    assert text is not None
    content = json.loads(text)
    assert content.pop("software").startswith("Easel ")
    assert content == PARAMETERS
    assert embedded(encode(PIXELS, OutputSpec(format=format_, embed_parameters=False), PARAMETERS)) is None


@pytest.mark.parametrize("format_", [PNG, WEBP])
def test_long_prompts_are_kept_where_they_fit(format_: "ImageFormat.ValueType") -> None:
    parameters = {**PARAMETERS, "prompt": "🏰" * 4_000, "negative_prompt": "🌧" * 4_000}

    content = json.loads(embedded(encode(PIXELS, OutputSpec(format=format_), parameters)) or "")

    assert {name: content[name] for name in parameters} == parameters


@pytest.mark.parametrize(
    ("prompt", "negative_prompt"),
    [
        ("🏰" * 4_000, "🌧" * 4_000),
        ("🏰" * 4_000, "short"),
        ("", "🌧" * 6_000),
        *(("x" * length, "") for length in range(65_200, 65_600, 40)),
    ],
)
def test_prompts_too_long_for_jpeg_are_cut(prompt: str, negative_prompt: str) -> None:
    parameters = {**PARAMETERS, "prompt": prompt, "negative_prompt": negative_prompt}

    text = embedded(encode(PIXELS, OutputSpec(format=JPEG), parameters)) or ""

    content = json.loads(text)
    assert content.pop("software")
    for name, whole in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        kept = content[name].removesuffix("…")
        assert whole.startswith(kept)
        assert (kept == whole) == (content[name] == kept)
        content[name] = whole
    assert content == parameters
    # No more is cut than has to be.
    assert "\\u2026" not in text or len(text) > 65_400


@pytest.mark.parametrize(("error", "raised"), [(ValueError, NotEncodable), (MemoryError, MemoryError)])
async def test_only_an_error_that_would_come_again_is_final(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], raised: type[Exception]
) -> None:
    def fail(*_given: object) -> PictureFile:
        raise error("odd")

    monkeypatch.setattr(pictures, "encode", fail)
    encoder = Encoder()
    try:
        with pytest.raises(raised, match="odd"):
            await encoder.encode(PIXELS, OutputSpec(format=PNG), parameters=PARAMETERS)
    finally:
        encoder.close()


async def test_the_encoder_gives_the_same_off_the_loop() -> None:
    encoder = Encoder()
    try:
        file = await encoder.encode(PIXELS, OutputSpec(format=PNG), parameters=PARAMETERS)
    finally:
        encoder.close()

    assert file == encode(PIXELS, OutputSpec(format=PNG), PARAMETERS)
    assert "data" not in repr(file)


def test_a_preview_is_a_jpeg_of_its_size() -> None:
    gradient = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3))

    file = encode_preview(gradient)

    assert (file.content_type, opened(file).format) == ("image/jpeg", "JPEG")
    assert (file.width, file.height) == opened(file).size == (256, 256)
    assert np.abs(np.asarray(opened(file)).astype(int) - gradient).max() < 8


@pytest.mark.parametrize(("side", "smaller"), [(256, 128), (2048, 256), (255, 128)])
def test_a_preview_too_large_for_the_wire_becomes_smaller(side: int, smaller: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)

    file = encode_preview(noise)

    assert len(file.data) <= MAX_PREVIEW_BYTES
    assert opened(file).size == (smaller, smaller)

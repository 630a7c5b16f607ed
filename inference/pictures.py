"""Turns pixels into files."""

import asyncio
import hashlib
import io
import json
from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

import easel
from easel.v1.generation_pb2 import ImageFormat, OutputSpec
from inference.engine.engine import Pixels

DEFAULT_QUALITY = 90
#: A quarter of the time of the default level, for a few per cent more bytes.
PNG_COMPRESS_LEVEL = 3
#: The PNG keyword, and the EXIF tag of JPEG and WebP, that hold the parameters as JSON.
PNG_KEYWORD = "parameters"
EXIF_TAG = ExifTags.Base.ImageDescription
#: JPEG holds EXIF in one segment of 65,533 bytes at most; what is around the text takes less than the rest of it.
MAX_JPEG_TEXT_BYTES = 65_533 - 64
#: The parameters that are cut when they do not fit.
CUTTABLE = ("prompt", "negative_prompt")
#: Of a preview: it is looked at for a moment.
PREVIEW_QUALITY = 80
MAX_PREVIEW_BYTES = 32 * 1024
THREADS = 2


class NotEncodable(Exception):
    """A picture cannot be encoded as its request wants it, now or later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFile:
    """An encoded picture."""

    data: bytes = field(repr=False)
    content_type: str
    #: Without the dot.
    extension: str
    width: int
    height: int

    @property
    def sha256(self) -> str:
        """The checksum in lower-case hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


class Encoder:
    """Encodes pictures in threads of its own, since one of 1024 x 1024 takes a tenth of a second."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="encode")

    async def encode(self, pixels: Pixels, output: OutputSpec, *, parameters: Mapping[str, Any]) -> PictureFile:
        """Encode one picture as its request wants it; the parameters go in unless it says not to.

        Raises:
            NotEncodable: nor would it be another time.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _encode, pixels, output, parameters)

    async def encode_preview(self, pixels: Pixels) -> PictureFile:
        """Encode a picture to be looked at for a moment: a JPEG of at most `MAX_PREVIEW_BYTES`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, encode_preview, pixels)

    def close(self) -> None:
        """Let the threads end after what they have in hand."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def encode(pixels: Pixels, output: OutputSpec, parameters: Mapping[str, Any]) -> PictureFile:
    """Encode one picture."""
    embeds = output.embed_parameters if output.HasField("embed_parameters") else True
    embedded = {**parameters, "software": f"Easel {easel.__version__}"} if embeds else None
    quality = output.quality if output.HasField("quality") else DEFAULT_QUALITY
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    match output.format:
        case ImageFormat.IMAGE_FORMAT_JPEG:
            content_type, extension = "image/jpeg", "jpg"
            image.save(buffer, "JPEG", quality=quality, exif=_exif(embedded, max_bytes=MAX_JPEG_TEXT_BYTES))
        case ImageFormat.IMAGE_FORMAT_WEBP:
            content_type, extension = "image/webp", "webp"
            image.save(buffer, "WEBP", quality=quality, exif=_exif(embedded))
        case _:
            content_type, extension = "image/png", "png"
            image.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL, pnginfo=_png_info(embedded))
    return PictureFile(
        data=buffer.getvalue(),
        content_type=content_type,
        extension=extension,
        width=image.width,
        height=image.height,
    )


def encode_preview(pixels: Pixels) -> PictureFile:
    """Encode a picture as a small JPEG, at half the size as often as it takes."""
    image = Image.fromarray(pixels)
    while len(data := _jpeg(image, quality=PREVIEW_QUALITY)) > MAX_PREVIEW_BYTES:
        image = image.reduce(2)
    return PictureFile(data=data, content_type="image/jpeg", extension="jpg", width=image.width, height=image.height)


def _jpeg(image: Image.Image, *, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _encode(pixels: Pixels, output: OutputSpec, parameters: Mapping[str, Any]) -> PictureFile:
    try:
        return encode(pixels, output, parameters)
    except MemoryError:
        raise  # that may be different another time; all else follows from what is given
    except Exception as error:
        raise NotEncodable(f"{type(error).__name__}: {error}") from error


def _png_info(parameters: Mapping[str, Any] | None) -> PngInfo:
    info = PngInfo()
    if parameters is not None:
        info.add_text(PNG_KEYWORD, json.dumps(parameters))
    return info


def _exif(parameters: Mapping[str, Any] | None, *, max_bytes: int | None = None) -> Image.Exif:
    exif = Image.Exif()
    if parameters is not None:
        # JSON escapes what is not ASCII, as the tag's type demands: a character may take twelve bytes.
        text = json.dumps(parameters)
        exif[EXIF_TAG] = text if max_bytes is None or len(text) <= max_bytes else _shortened(parameters, max_bytes)
    return exif


def _shortened(parameters: Mapping[str, Any], max_bytes: int) -> str:
    """Keep as many characters of each prompt as fit, and all other parameters."""

    def cut(characters: int) -> str:
        return json.dumps({name: _cut(value, characters) if name in CUTTABLE else value for name, value in items})

    items = parameters.items()
    lengths = range(max(len(parameters.get(name, "")) for name in CUTTABLE))
    return cut(bisect_right(lengths, max_bytes, key=lambda characters: len(cut(characters))) - 1)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"

"""Turns pixels into files."""

import asyncio
import hashlib
import io
import json
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
THREADS = 2


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
        """Encode one picture as its request wants it; the parameters go in unless it says not to."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, encode, pixels, output, parameters)

    def close(self) -> None:
        """Let the threads end after what they have in hand."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def encode(pixels: Pixels, output: OutputSpec, parameters: Mapping[str, Any]) -> PictureFile:
    """Encode one picture."""
    embeds = output.embed_parameters if output.HasField("embed_parameters") else True
    text = json.dumps({**parameters, "software": f"Easel {easel.__version__}"}) if embeds else None
    quality = output.quality if output.HasField("quality") else DEFAULT_QUALITY
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    match output.format:
        case ImageFormat.IMAGE_FORMAT_JPEG:
            content_type, extension = "image/jpeg", "jpg"
            image.save(buffer, "JPEG", quality=quality, exif=_exif(text))
        case ImageFormat.IMAGE_FORMAT_WEBP:
            content_type, extension = "image/webp", "webp"
            image.save(buffer, "WEBP", quality=quality, exif=_exif(text))
        case _:
            content_type, extension = "image/png", "png"
            image.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL, pnginfo=_png_info(text))
    return PictureFile(
        data=buffer.getvalue(),
        content_type=content_type,
        extension=extension,
        width=image.width,
        height=image.height,
    )


def _png_info(text: str | None) -> PngInfo:
    info = PngInfo()
    if text is not None:
        info.add_text(PNG_KEYWORD, text)
    return info


def _exif(text: str | None) -> Image.Exif:
    exif = Image.Exif()
    if text is not None:
        exif[EXIF_TAG] = text  # JSON escapes what is not ASCII, as the tag's type demands
    return exif

"""Previews on their way out: encoded beside the drawing, sent at most a few a second, never stored."""

import asyncio
import time

from loguru import logger

from easel.v1.generation_messages_pb2 import Preview
from inference.engine.engine import Previewed
from inference.metrics import DROPPED, FAILED, REPLACED, SENT, Metrics
from inference.pictures import Encoder
from inference.progress import ProgressReporter

#: At least so long lies between two previews of an attempt, however fast the engine makes them.
INTERVAL_SECONDS = 0.25


class Previews:
    """Sends the previews of one attempt, none of which is worth waiting for.

    What comes while another is on its way waits alone: the newest wins. So there is never more than one of each.
    """

    def __init__(self, encoder: Encoder, progress: ProgressReporter, *, metrics: Metrics) -> None:
        self._encoder = encoder
        self._progress = progress
        self._metrics = metrics
        self._newest: Previewed | None = None
        self._sent_at = float("-inf")
        self._sending: asyncio.Task[None] | None = None

    def offer(self, preview: Previewed) -> None:
        """Take a preview to be sent, in place of one that waits; returns at once."""
        if self._newest is not None:
            self._metrics.count_preview(REPLACED)
        self._newest = preview
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name="previews")

    def close(self) -> None:
        """Drop what is not sent yet: the pictures themselves are there, or nobody wants them."""
        if self._sending is not None:
            self._sending.cancel()
        if self._newest is not None:
            self._newest = None
            self._metrics.count_preview(DROPPED)

    async def _send_all(self) -> None:
        while self._newest is not None:
            await asyncio.sleep(self._sent_at + INTERVAL_SECONDS - time.monotonic())
            preview, self._newest = self._newest, None
            self._sent_at = time.monotonic()
            await self._send(preview)

    async def _send(self, preview: Previewed) -> None:
        outcome = DROPPED
        try:
            file = await self._encoder.encode_preview(preview.pixels)
            await self._progress.show(
                Preview(
                    step=preview.step,
                    image_index=preview.image_index,
                    content_type=file.content_type,
                    data=file.data,
                )
            )
            outcome = SENT
        except Exception:  # noqa: BLE001  # a picture is worth more than its previews
            logger.exception("a preview is lost", action="preview_failed")
            outcome = FAILED
        finally:
            self._metrics.count_preview(outcome)

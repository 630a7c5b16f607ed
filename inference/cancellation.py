"""Hears of cancelled generations at once; the next renewal repairs what was missed."""

from google.protobuf.message import DecodeError
from loguru import logger
from nats.aio.msg import Msg

from easel import subjects
from easel.bus import Bus
from easel.worker.v1.task_pb2 import CancelNotice
from inference.attempts import Attempts


class Cancellation:
    """Drops the attempts of a generation as soon as it is cancelled."""

    def __init__(self, bus: Bus, attempts: Attempts) -> None:
        self._bus = bus
        self._attempts = attempts

    async def listen(self) -> None:
        """Subscribe; the bus keeps the subscription across reconnections."""
        await self._bus.subscribe(subjects.CANCEL, self._on_notice)

    async def _on_notice(self, message: Msg) -> None:
        try:
            notice = CancelNotice.FromString(message.data)
        except DecodeError:
            logger.warning("unreadable cancel notice", action="cancel_unreadable")
            return
        self._attempts.drop(notice.generation_id, reason="cancelled")

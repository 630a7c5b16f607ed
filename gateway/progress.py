"""Progress on its way from the workers: to the hub at once, to the record coalesced."""

from nats.aio.msg import Msg

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_pb2 import Progress
from gateway.errors import DatabaseUnavailable
from gateway.record.attempts import Attempt, Attempts
from gateway.record.documents import to_json
from gateway.reports import read_report

#: How often progress is written: GetGeneration is at most this, and a statement, behind the stream.
FLUSH_SECONDS = 0.25


class ProgressWriter:
    """Writes the latest progress of each attempt to the record, many in one statement.

    The gateways share the reports: each goes to one of them. The reports' sequence numbers keep an older one, written
    late by another gateway, from replacing a newer one. Previews are left out: they are for whoever watches.
    """

    def __init__(self, bus: Bus, attempts: Attempts) -> None:
        self._bus = bus
        self._attempts = attempts
        self._latest: dict[Attempt, tuple[int, Progress]] = {}

    async def listen(self) -> None:
        """Subscribe; the bus keeps the subscription across reconnections."""
        await self._bus.subscribe(subjects.ALL_PROGRESS, self._on_message, queue=subjects.GATEWAY_QUEUE)

    async def flush(self) -> None:
        """Write what came since the last time.

        Raises:
            DatabaseUnavailable: it is kept, unless something newer has come.
        """
        latest, self._latest = self._latest, {}
        try:
            await self._attempts.save_progress(
                [(attempt, sequence, to_json(progress)) for attempt, (sequence, progress) in latest.items()]
            )
        except DatabaseUnavailable:
            self._latest = {**latest, **self._latest}
            raise

    async def _on_message(self, message: Msg) -> None:
        report = read_report(message.data)
        if report is None:
            return
        attempt = Attempt(generation_id=report.generation_id, number=report.progress.attempt, claim_id=report.claim_id)
        sequence, _ = self._latest.get(attempt, (0, None))
        if sequence < report.sequence:
            progress = Progress()
            progress.CopyFrom(report.progress)  # the report would be kept whole with it, preview and all
            self._latest[attempt] = (report.sequence, progress)

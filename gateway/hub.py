"""The hub: one subscription per gateway for all its watchers, and their mailboxes."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from easel import subjects
from easel.bus import Bus
from easel.worker.v1.progress_pb2 import ProgressReport
from easel.worker.v1.task_pb2 import Nudge
from gateway.errors import ShuttingDown
from gateway.record.generation import Revision
from gateway.record.generations import Generations
from gateway.reports import read_report

#: Reading so many takes some milliseconds, in which nothing else goes on in this process.
RECHECKED_AT_ONCE = 1_000
#: Comes after every revision: of a generation that was purged, whose watchers find that out when they look.
GONE = sys.maxsize


class Mailbox:
    """What one watcher has not looked at yet: the latest revision heard of, the latest progress, the latest preview.

    It holds one report for each, not a queue: a slow reader gets the latest. Changes of state are not in it at all; the
    watcher reads them from the record, so that none can be skipped.
    """

    def __init__(self) -> None:
        self.revision = 0
        #: When the hub first heard of what the watcher has not been told of; on the clock of `time.monotonic`.
        self.heard_at: float | None = None
        #: What the record said when it was last asked; for the watcher to compare, and to forget.
        self.found: Revision | None = None
        self._found: Revision | None = None
        self._report: ProgressReport | None = None
        self._report_with_preview: ProgressReport | None = None
        self._arrived = asyncio.Event()
        self._closed = False

    def take_heard_at(self) -> float | None:
        """Say since when there is something to tell the watcher; what is heard of from now on counts anew."""
        heard_at, self.heard_at = self.heard_at, None
        return heard_at

    def hear_of(self, revision: int) -> None:
        """Take note that the generation has come to a revision."""
        if revision > self.revision:
            self.revision = revision
            self._arrived.set()

    def compare(self, found: Revision, *, heard_of: int) -> None:
        """Take note of what the record says of the generation, after the watcher had heard of a revision.

        It is behind, or in another state, only if it was restored from a backup.
        """
        if found.number < heard_of < GONE:
            self.revision = found.number
            self._arrived.set()
        if found != self._found:
            self._found = self.found = found
            self._arrived.set()

    def receive(self, report: ProgressReport) -> None:
        """Take in a report of progress, in place of an earlier one."""
        self._report = _later(self._report, report)
        if report.HasField("preview"):
            self._report_with_preview = _later(self._report_with_preview, report)
        self._arrived.set()

    def close(self) -> None:
        """Let the watcher end with `ShuttingDown`."""
        self._closed = True
        self._arrived.set()

    async def wait(self) -> list[ProgressReport]:
        """Wait until there is something new, and take what reports there are, in order.

        Raises:
            ShuttingDown: this gateway goes away.
        """
        await self._arrived.wait()
        if self._closed:
            raise ShuttingDown
        self._arrived.clear()
        return self._take()

    def _take(self) -> list[ProgressReport]:
        preview, latest = self._report_with_preview, self._report
        self._report = self._report_with_preview = None
        if latest is None:
            return []
        # Both are the same report unless progress has come since the preview.
        return [latest] if preview is None or preview is latest else [preview, latest]


class Hub:
    """Brings nudges and progress from the bus to the watchers' mailboxes."""

    def __init__(self, bus: Bus, generations: Generations) -> None:
        self._bus = bus
        self._generations = generations
        self._mailboxes: defaultdict[str, set[Mailbox]] = defaultdict(set)
        self._closed = False

    async def listen(self) -> None:
        """Subscribe; the bus keeps the subscriptions across reconnections."""
        await self._bus.subscribe(subjects.NUDGE, self._on_nudge)
        await self._bus.subscribe(subjects.ALL_PROGRESS, self._on_progress)

    @contextmanager
    def mailbox(self, generation_id: str) -> Iterator[Mailbox]:
        """Open a mailbox for the news of a generation.

        Open it before reading the record: then what changes in between is heard of.

        Raises:
            ShuttingDown: this gateway goes away.
        """
        if self._closed:
            raise ShuttingDown
        mailbox = Mailbox()
        self._mailboxes[generation_id].add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[generation_id].discard(mailbox)
            if not self._mailboxes[generation_id]:
                del self._mailboxes[generation_id]

    async def recheck(self) -> None:
        """Look all watched generations up, many at once, so that a lost nudge never hangs a watcher."""
        watched = list(self._mailboxes)
        for index in range(0, len(watched), RECHECKED_AT_ONCE):
            await self._recheck(watched[index : index + RECHECKED_AT_ONCE])

    async def _recheck(self, generation_ids: Sequence[str]) -> None:
        # What they have heard of by now was committed: the record can only be behind if it was restored.
        watched = {
            generation_id: [(mailbox, mailbox.revision) for mailbox in self._mailboxes.get(generation_id, ())]
            for generation_id in generation_ids
        }
        revisions = await self._generations.get_revisions(generation_ids)
        for generation_id, heard in watched.items():
            found = revisions.get(generation_id)
            self._hear_of(generation_id, GONE if found is None else found.number)
            if found is not None:
                for mailbox, heard_of in heard:
                    mailbox.compare(found, heard_of=heard_of)

    def close(self) -> None:
        """End all watchers, present and to come."""
        self._closed = True
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()

    async def _on_nudge(self, message: Msg) -> None:
        try:
            nudge = Nudge.FromString(message.data)
        except DecodeError:
            return
        self._hear_of(nudge.generation_id, nudge.revision)

    async def _on_progress(self, message: Msg) -> None:
        generation_id = message.subject.rsplit(".", 1)[-1]
        mailboxes = self._mailboxes.get(generation_id)
        if not mailboxes:
            return
        report = read_report(message.data)
        if report is not None:
            for mailbox in mailboxes:
                mailbox.receive(report)

    def _hear_of(self, generation_id: str, revision: int) -> None:
        for mailbox in self._mailboxes.get(generation_id, ()):
            if revision > mailbox.revision and mailbox.heard_at is None:
                mailbox.heard_at = time.monotonic()
            mailbox.hear_of(revision)


def _later(held: ProgressReport | None, arrived: ProgressReport) -> ProgressReport:
    """Choose the later of two reports: a worker that lost its attempt may still speak of it."""
    return arrived if held is None or _order(arrived) >= _order(held) else held


def _order(report: ProgressReport) -> tuple[int, int]:
    return report.progress.attempt, report.sequence

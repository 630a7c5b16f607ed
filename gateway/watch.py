"""Watching one generation: its changes of state from the record, its progress from the bus, in one ordered stream."""

import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_messages_pb2 import Preview
from easel.v1.generation_pb2 import Progress
from easel.worker.v1.progress_pb2 import ProgressReport
from gateway.errors import GenerationNotFound
from gateway.hub import Hub, Mailbox
from gateway.metrics import Metrics
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations
from gateway.reports import check_report
from gateway.resume_token import Position


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One thing that a watcher sees, and the position that it brings the watcher to."""

    position: Position
    #: After a change of state.
    generation: Generation | None = None
    progress: Progress | None = None
    preview: Preview | None = None


class Watching:
    """Follows generations on behalf of clients."""

    def __init__(self, generations: Generations, hub: Hub, bus: Bus, *, metrics: Metrics) -> None:
        self._metrics = metrics
        self._generations = generations
        self._hub = hub
        self._bus = bus

    async def watch_generation(self, position: Position, *, owner: str) -> AsyncGenerator[Sight, None]:
        """Follow a generation from a position until its final state.

        The first sight is the whole generation: each change since the position, or as it stands if there was none. From
        the very beginning (revision 0) that is as it stands now.

        Raises:
            GenerationNotFound: no generation of this owner has this id.
            ShuttingDown: this gateway goes away; the last position is good at any other.
        """
        with self._hub.mailbox(position.generation_id) as mailbox:
            generation = await self._read(position, owner=owner)
            if position.revision == 0 or position.revision >= generation.revision:
                position = _at(generation, position)
                yield Sight(position=position, generation=generation)
            mailbox.hear_of(generation.revision)
            if generation.state == State.RUNNING:
                await self._catch_up(mailbox, position.generation_id)
            shown: Progress | None = None
            while not generation.state.is_final or position.revision < generation.revision:
                reports = await mailbox.wait()
                shown_state, heard_at = generation.state, mailbox.take_heard_at()
                changes = await self._transitions(mailbox, position, shown_state, owner=owner)
                for generation in changes:
                    position = _at(generation, position)
                    mailbox.hear_of(position.revision)
                    yield Sight(position=position, generation=generation)
                if changes and heard_at is not None:
                    self._metrics.watch_lag_seconds.observe(time.monotonic() - heard_at)
                for report in reports:
                    if _is_news(report, generation, position):
                        position = replace(position, attempt=report.progress.attempt, sequence=report.sequence)
                        for sight in _sights(report, position, shown=shown):
                            yield sight
                        shown = report.progress

    async def _read(self, position: Position, *, owner: str) -> Generation:
        generation = await self._generations.get_generation(position.generation_id, owner=owner)
        if generation is None:
            raise GenerationNotFound(position.generation_id)
        return generation

    async def _transitions(self, mailbox: Mailbox, position: Position, state: State, *, owner: str) -> list[Generation]:
        """Read what a mailbox has heard of: each change since a position, or the present of a record that went back."""
        found, mailbox.found = mailbox.found, None
        went_another_way = found is not None and found.number == position.revision and found.state != state
        if mailbox.revision < position.revision or went_another_way:
            return [await self._read(position, owner=owner)]
        return await self._changes(position, owner=owner) if mailbox.revision > position.revision else []

    async def _changes(self, position: Position, *, owner: str) -> list[Generation]:
        found = await self._generations.get_history(
            position.generation_id, owner=owner, after_revision=position.revision
        )
        if found is None:
            raise GenerationNotFound(position.generation_id)
        generation, events = found
        return [generation.as_of(event) for event in events]

    async def _catch_up(self, mailbox: Mailbox, generation_id: str) -> None:
        """Put the last report that JetStream remembers into the mailbox: the next one may be long in coming."""
        report = await self._bus.last(subjects.PROGRESS_STREAM, subjects.progress(generation_id), ProgressReport)
        if report is not None and (checked := check_report(report)) is not None:
            mailbox.receive(checked)


def _at(generation: Generation, position: Position) -> Position:
    """Move a position on to a generation; or back, with a record that was restored from a backup."""
    if generation.revision < position.revision:
        return Position(generation_id=generation.id, revision=generation.revision)
    return replace(position, revision=generation.revision)


def _is_news(report: ProgressReport, generation: Generation, position: Position) -> bool:
    """Whether a report is of the current attempt, and later than what the watcher saw."""
    attempt = report.progress.attempt
    return (
        generation.state == State.RUNNING
        and attempt == generation.attempt
        and report.claim_id in ("", generation.claim_id)
        and (attempt, report.sequence) > (position.attempt, position.sequence)
    )


def _sights(report: ProgressReport, position: Position, *, shown: Progress | None) -> Iterator[Sight]:
    """Show the progress of a report and then its preview; one with a preview often has no progress to add."""
    if not report.HasField("preview"):
        yield Sight(position=position, progress=report.progress)
        return
    if report.progress != shown:
        yield Sight(position=position, progress=report.progress)
    yield Sight(position=position, preview=report.preview)

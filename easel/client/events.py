"""What a watcher gets to see, and what of a stream is news to it."""

from dataclasses import dataclass

from easel.v1.generation_messages_pb2 import GenerateResponse, Preview, WatchGenerationResponse
from easel.v1.generation_pb2 import Generation, GenerationState, Phase, Progress

Message = GenerateResponse | WatchGenerationResponse

FINAL_STATES = frozenset(
    {
        GenerationState.GENERATION_STATE_SUCCEEDED,
        GenerationState.GENERATION_STATE_FAILED,
        GenerationState.GENERATION_STATE_CANCELLED,
        GenerationState.GENERATION_STATE_EXPIRED,
    }
)


def is_final(generation: Generation) -> bool:
    """Whether a generation has reached a state that never changes again."""
    return generation.state in FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a generation: a change of its state, unless it has progress or a preview."""

    #: The generation as of its latest change of state.
    generation: Generation
    #: How far the current attempt has come, in an event of progress.
    progress: Progress | None = None
    #: A picture of work in progress, in an event that brings one.
    preview: Preview | None = None
    #: Where to go on watching, from any process; opaque.
    resume_token: str = ""

    @property
    def is_transition(self) -> bool:
        """Whether the generation's state changed; the first event of a watch counts as a change."""
        return self.progress is None and self.preview is None

    @property
    def is_final(self) -> bool:
        """Whether it is the last event: the generation has reached a final state."""
        return self.is_transition and is_final(self.generation)


class Position:
    """How far a watcher has come: drops what a new stream repeats, and what arrives after it has become stale.

    Changes of state are told apart by their revision, which goes back only when the service was restored from a backup:
    no stream repeats more than the last one. Progress is a worker's (attempt, step, phase), which only grows,
    or the queue's, which only counts while no worker is at work. Each picture's previews are told apart by their step.
    """

    def __init__(self, resume_token: str = "") -> None:
        self.resume_token = resume_token
        self.generation: Generation | None = None
        self._attempt = 0
        self._mark = (0, 0)
        self._previewed: dict[int, int] = {}

    @property
    def is_final(self) -> bool:
        """Whether nothing more can come."""
        return self.generation is not None and is_final(self.generation)

    def advance(self, message: Message) -> Event | None:
        """Take one message of a stream; return what is new in it, if anything."""
        if not self._is_news(message):
            return None
        self.resume_token = message.resume_token or self.resume_token
        assert self.generation is not None  # noqa: S101  # for the type checker: news is about a known generation
        return Event(
            generation=self.generation,
            progress=message.progress if message.HasField("progress") else None,
            preview=message.preview if message.HasField("preview") else None,
            resume_token=self.resume_token,
        )

    def _is_news(self, message: Message) -> bool:
        kind = message.WhichOneof("event")
        if kind == "generation":
            return self._change_state(message.generation)
        if self.generation is None or self.is_final:
            return False
        if kind == "progress":
            return self._move_on(message.progress)
        return kind == "preview" and self._show(message.preview)

    def _change_state(self, generation: Generation) -> bool:
        if self.generation is not None:
            if (generation.revision, generation.state) == (self.generation.revision, self.generation.state):
                return False
            if generation.revision <= self.generation.revision:
                # The service was restored from a backup: it goes on from there, and gives attempts out again.
                self._begin(generation.attempt_count)
        self.generation = generation
        if generation.state == GenerationState.GENERATION_STATE_QUEUED:
            # What is still under way from an attempt that was lost must not be taken for its successor's.
            self._begin(max(self._attempt, generation.attempt_count) + 1)
        elif generation.attempt_count > self._attempt:
            self._begin(generation.attempt_count)
        return True

    def _move_on(self, progress: Progress) -> bool:
        if progress.phase == Phase.PHASE_UNSPECIFIED:
            queued = self.generation is not None and self.generation.state == GenerationState.GENERATION_STATE_QUEUED
            return queued and self._mark == (0, 0)
        if progress.attempt > self._attempt:
            self._begin(progress.attempt)
        mark = (progress.step, progress.phase)
        if progress.attempt < self._attempt or mark < self._mark:
            return False
        self._mark = mark
        return True

    def _show(self, preview: Preview) -> bool:
        if preview.attempt > self._attempt:
            self._begin(preview.attempt)
        if preview.attempt < self._attempt or preview.step <= self._previewed.get(preview.image_index, -1):
            return False
        self._previewed[preview.image_index] = preview.step
        return True

    def _begin(self, attempt: int) -> None:
        self._attempt = attempt
        self._mark = (0, 0)
        self._previewed.clear()

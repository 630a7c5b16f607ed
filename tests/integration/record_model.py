"""What the record must do, in plain Python: one generation, and what each operation makes of it.

An operation is a sequence of steps, each of which the database does at one instant; several operations at a time are
right if some order of their steps explains what they answered and what they left behind. Statements about many
generations lock each of them for itself, so that each generation may have an order of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.record.generation import State

#: Of the policy that the operations are run with.
MAX_LOST_ATTEMPTS = 2

#: Failures that end it, that may be retried a few times, and that say nothing against it.
MODEL_ERROR, INTERNAL, STORAGE = "FAILURE_REASON_MODEL_ERROR", "FAILURE_REASON_INTERNAL", "FAILURE_REASON_STORAGE"
DEAD_LETTER = "FAILURE_REASON_DEAD_LETTER"


@dataclass(frozen=True, kw_only=True)
class ModelAttempt:
    number: int
    claim_id: str
    object_prefix: str
    outcome: str | None = None
    sequence: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelGeneration:
    """One generation. Times are told by what they have come to."""

    id: str
    state: State = State.QUEUED
    attempts: tuple[ModelAttempt, ...] = ()
    #: (state, attempt) after each change: the revision is how many there are.
    events: tuple[tuple[State, int], ...] = ((State.QUEUED, 0),)
    lost_attempts: int = 0
    failure_reason: str | None = None
    #: The prefix of its pictures.
    pictures: str | None = None
    dispatched: bool = False
    backing_off: bool = False
    lease_ran_out: bool = False
    deadline_passed: bool = False
    purge_due: bool = False
    deleted: bool = False
    purged: bool = False
    #: What was put down for deletion.
    object_deletions: frozenset[str] = frozenset()

    @property
    def revision(self) -> int:
        return len(self.events)

    @property
    def is_live(self) -> bool:
        return not self.state.is_final

    @property
    def attempt(self) -> int:
        """The number of the latest attempt: the fencing token."""
        return len(self.attempts)

    @property
    def change(self) -> tuple[str, int]:
        """What is announced of it: its state and revision."""
        return self.state, self.revision

    def holds(self, number: int) -> bool:
        """Whether an attempt is the one that draws it."""
        return self.state == State.RUNNING and number == self.attempt

    def has(self, number: int) -> bool:
        return not self.purged and 1 <= number <= self.attempt

    def knows(self, object_prefix: str) -> bool:
        return any(attempt.object_prefix == object_prefix for attempt in self.attempts)

    def moved(self, state: State, *, outcome: str = "STOPPED", **fields: Any) -> "ModelGeneration":
        """Change its state, by which the attempt that draws it ends; a final one leaves the objects of its losers."""
        fields = {"dispatched": self.dispatched and state.is_final, "lease_ran_out": False, **fields}
        moved = replace(self, state=state, **fields)
        if self.state == State.RUNNING and self.attempts[-1].outcome is None:
            moved = moved.with_outcome(self.attempt, outcome)
        moved = replace(moved, events=(*moved.events, (state, moved.attempt)))
        if state.is_final:
            losers = {one.object_prefix for one in moved.attempts if one.object_prefix != moved.pictures}
            moved = replace(moved, object_deletions=moved.object_deletions | losers)
        return moved

    def with_outcome(self, number: int, outcome: str) -> "ModelGeneration":
        return self.with_attempt(replace(self.attempts[number - 1], outcome=outcome))

    def with_attempt(self, attempt: ModelAttempt) -> "ModelGeneration":
        at = attempt.number - 1
        return replace(self, attempts=(*self.attempts[:at], attempt, *self.attempts[at + 1 :]))


def purged(generation_id: str, *, object_deletions: frozenset[str]) -> ModelGeneration:
    """Make what is left of a generation that was purged: nothing but the objects to be removed."""
    return ModelGeneration(
        id=generation_id, state=State.EXPIRED, events=(), purged=True, object_deletions=object_deletions
    )


#: A step gives each generation that it may leave behind, with its answer; it gets what the step before answered.
Step = Callable[[ModelGeneration, Any], Iterator[tuple[ModelGeneration, Any]]]

GONE, HELD, NOT_YET, NOTHING = "GONE", "HELD", "NOT_YET", None


def claim(claim_id: str, nonce: str) -> Sequence[Step]:
    def try_it(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        asked_before = any(attempt.claim_id == claim_id for attempt in one.attempts)
        if one.state != State.QUEUED or one.backing_off or one.deadline_passed or asked_before:
            yield one, NOTHING
            return
        number = one.attempt + 1
        prefix = f"results/{one.id}/{number}-{nonce}/"
        started = ModelAttempt(number=number, claim_id=claim_id, object_prefix=prefix)
        granted = replace(one, attempts=(*one.attempts, started)).moved(State.RUNNING)
        yield granted, ("new", number, prefix, granted.lost_attempts > 0, granted.revision)

    def look(one: ModelGeneration, answer: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if answer is not NOTHING:
            yield one, answer
        elif one.purged or not one.is_live or one.deadline_passed:
            yield one, GONE
        elif one.state == State.QUEUED:
            asked_before = any(attempt.claim_id == claim_id for attempt in one.attempts)
            yield one, HELD if asked_before else NOT_YET
        elif one.attempts[-1].claim_id == claim_id:
            current = one.attempts[-1]
            yield one, ("known", current.number, current.object_prefix, one.lost_attempts > 0, one.revision)
        else:
            yield one, HELD

    return try_it, look


def renew(number: int) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        yield (replace(one, lease_ran_out=False), True) if one.holds(number) else (one, False)

    return (step,)


def release(number: int) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        yield _changed(one.moved(State.QUEUED, outcome="RELEASED")) if one.holds(number) else (one, NOTHING)

    return (step,)


def succeed(number: int) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if one.is_live and one.has(number):
            won = one.with_outcome(number, "SUCCEEDED")
            yield _changed(won.moved(State.SUCCEEDED, pictures=won.attempts[number - 1].object_prefix))
        else:
            yield one, NOTHING

    return (step,)


def fail(number: int, reason: str) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if not one.holds(number):
            yield one, NOTHING
        elif reason == MODEL_ERROR:
            yield _changed(_lost(one, losses=1, outcome="FAILED", given_up=reason))
        elif reason == STORAGE:
            yield _changed(_lost(one, losses=0, outcome="FAILED"))
        else:
            yield _changed(_lost(one, losses=1, outcome="FAILED", given_up=_dead_letter(one)))

    return (step,)


def cancel() -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        yield _changed(one.moved(State.CANCELLED)) if one.is_live else (one, NOTHING)

    return (step,)


def requeue_lost(*, skips: bool) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        is_lost = one.state == State.RUNNING and one.lease_ran_out
        if is_lost:
            yield _changed(_lost(one, losses=1, outcome="LOST", given_up=_dead_letter(one)))
        if skips or not is_lost:
            yield one, NOTHING

    return (step,)


def expire(*, skips: bool) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        is_late = one.is_live and one.deadline_passed
        if is_late:
            yield _changed(one.moved(State.EXPIRED))
        if skips or not is_late:
            yield one, NOTHING

    return (step,)


def mark_dispatched(*, skips: bool) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        is_due = one.state == State.QUEUED and not one.dispatched and not one.backing_off
        if is_due:
            yield replace(one, dispatched=True), True
        if skips or not is_due:
            yield one, False

    return (step,)


def unmark_dispatched() -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        is_out = one.state == State.QUEUED and one.dispatched
        yield (replace(one, dispatched=False) if is_out else one), is_out

    return (step,)


def save_progress(number: int, sequence: int) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        attempt = one.attempts[number - 1] if one.has(number) else None
        if attempt and attempt.outcome is None and attempt.sequence < sequence:
            one = one.with_attempt(replace(attempt, sequence=sequence))
        yield one, NOTHING

    return (step,)


def delete() -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if one.is_live or one.purged:
            yield one, False
        else:
            yield replace(one, deleted=True, pictures=None, object_deletions=_all_prefixes(one)), True

    return (step,)


def purge(*, skips: bool) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        is_due = not one.is_live and not one.purged and one.purge_due
        if is_due:
            yield purged(one.id, object_deletions=_all_prefixes(one)), NOTHING
        if skips or not is_due:
            yield one, NOTHING

    return (step,)


def adopt(attempt: ModelAttempt) -> Sequence[Step]:
    """Take in the pictures of an attempt that is not known, under the next number if its own is taken."""

    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if not one.is_live or one.knows(attempt.object_prefix):
            yield one, NOTHING
            return
        if one.state == State.RUNNING:
            one = one.with_outcome(one.attempt, "STOPPED")
        adopted = replace(attempt, number=max(attempt.number, one.attempt + 1), outcome="SUCCEEDED")
        one = replace(one, attempts=(*one.attempts, adopted))
        yield _changed(one.moved(State.SUCCEEDED, pictures=adopted.object_prefix))

    return (step,)


def put_down(object_prefix: str) -> Sequence[Step]:
    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        if one.is_live or one.knows(object_prefix) or object_prefix in one.object_deletions:
            yield one, False
        else:
            yield replace(one, object_deletions=one.object_deletions | {object_prefix}), True

    return (step,)


def pass_time(column: str) -> Sequence[Step]:
    """Let one of its times be over."""

    def step(one: ModelGeneration, _: Any) -> Iterator[tuple[ModelGeneration, Any]]:
        match column:
            case "lease_expire_time" if one.state == State.RUNNING:
                one = replace(one, lease_ran_out=True)
            case "available_time" if not one.purged:
                one = replace(one, backing_off=False)
            case "deadline_time" if not one.purged:
                one = replace(one, deadline_passed=True)
            case "purge_time" if not one.is_live and not one.purged:
                one = replace(one, purge_due=True)
        yield one, NOTHING

    return (step,)


def explanations(
    start: ModelGeneration, operations: Sequence[Sequence[Step]]
) -> Iterator[tuple[ModelGeneration, tuple[Any, ...]]]:
    """Go through every order of the operations' steps, and give what each would leave behind and answer."""
    return _orders(start, [tuple(steps) for steps in operations], (NOTHING,) * len(operations))


def _orders(
    one: ModelGeneration, left: list[tuple[Step, ...]], answers: tuple[Any, ...]
) -> Iterator[tuple[ModelGeneration, tuple[Any, ...]]]:
    if not any(left):
        yield one, answers
    for index, steps in enumerate(left):
        if steps:
            remaining = [*left[:index], steps[1:], *left[index + 1 :]]
            for after, answer in steps[0](one, answers[index]):
                yield from _orders(after, remaining, (*answers[:index], answer, *answers[index + 1 :]))


def _changed(one: ModelGeneration) -> tuple[ModelGeneration, Any]:
    return one, one.change


def _dead_letter(one: ModelGeneration) -> str | None:
    return DEAD_LETTER if one.lost_attempts >= MAX_LOST_ATTEMPTS else None


def _lost(one: ModelGeneration, *, losses: int, outcome: str, given_up: str | None = None) -> ModelGeneration:
    return one.moved(
        State.FAILED if given_up else State.QUEUED,
        outcome=outcome,
        dispatched=False,
        lost_attempts=one.lost_attempts + losses,
        backing_off=True,
        failure_reason=given_up,
    )


def _all_prefixes(one: ModelGeneration) -> frozenset[str]:
    return one.object_deletions | {attempt.object_prefix for attempt in one.attempts}

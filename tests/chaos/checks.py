"""The check, offline: what clients were told, against what the database and the bucket hold.

`python -m tests.chaos.checks FOLDER` repeats it for a run whose folder was kept.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tests.chaos import journal
from tests.chaos.evidence import Evidence, Row
from tests.chaos.journal import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    Fact,
    Fate,
    Fell,
    Refused,
    Seen,
    Sent,
    Struck,
    WatchEnded,
    Watching,
    WatchStarted,
)

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
REASONS = {Fate.MODEL_ERROR: "MODEL_ERROR", Fate.OUT_OF_MEMORY: "OUT_OF_MEMORY"}

Kind = Literal["lost", "doubled", "wrong"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A promise that was broken."""

    kind: Kind
    #: The generation, or whatever else it is about.
    id: str
    sentence: str


class Case:
    """The facts and the evidence, put in order by generation and by who says so."""

    def __init__(self, facts: Sequence[Fact], evidence: Evidence) -> None:
        self.facts = facts
        self.evidence = evidence
        self.generations: Mapping[str, Row] = {row["id"]: row for row in evidence.generations}
        self.attempts = _grouped(evidence.attempts)
        self.events = _grouped(evidence.events)

    def of(self, kind: type[journal.Some]) -> Sequence[journal.Some]:
        """List the facts of a kind, in their order."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @cached_property
    def sent(self) -> Mapping[str, Sent]:
        """What was asked for, by request_id."""
        return {fact.request_id: fact for fact in self.of(Sent)}

    @cached_property
    def accepted(self) -> Mapping[str, Sent]:
        """What clients were told is accepted, by the generation's id."""
        return {fact.id: self.sent[fact.request_id] for fact in self.of(Accepted) if fact.request_id in self.sent}

    @cached_property
    def cancelled(self) -> frozenset[str]:
        """The generations that somebody tried to cancel."""
        return frozenset(fact.id for fact in self.of(CancelAsked))

    @cached_property
    def seen(self) -> Mapping[str, Sequence[Seen]]:
        """What anybody saw of each generation."""
        seen = defaultdict(list)
        for fact in self.of(Seen):
            seen[fact.id].append(fact)
        return seen


def check(facts: Sequence[Fact], evidence: Evidence) -> Sequence[Finding]:
    """Find every broken promise."""
    case = Case(facts, evidence)
    return [finding for one in CHECKS for finding in one(case)]


# The record against what was asked for.


def _ends_as_it_should(case: Case) -> Iterator[Finding]:
    for id_, sent in case.accepted.items():
        row = case.generations.get(id_)
        if row is None:
            yield Finding(kind="lost", id=id_, sentence="accepted, and not in the record")
        elif row["state"] not in FINAL_STATES:
            yield Finding(kind="lost", id=id_, sentence=f"accepted, and {row['state']} for ever")
        else:
            yield from _ends_as_fated(row, sent, is_cancelled=id_ in case.cancelled)


def _ends_as_fated(row: Row, sent: Sent, *, is_cancelled: bool) -> Iterator[Finding]:
    state = row["state"]
    if state == "CANCELLED":
        if not is_cancelled:
            yield Finding(kind="lost", id=row["id"], sentence="CANCELLED, and nobody asked for it")
        return
    if sent.fate in REASONS:
        reason = (row["reason"] or "").removeprefix("FAILURE_REASON_")
        if state != "FAILED" or reason != REASONS[sent.fate]:
            wanted = f"FAILED with {REASONS[sent.fate]}"
            yield Finding(kind="wrong", id=row["id"], sentence=f"{state} {reason}, and should be {wanted}")
    elif state != "SUCCEEDED" and not (sent.fate == Fate.HURRIED and state == "EXPIRED"):
        yield Finding(kind="lost", id=row["id"], sentence=f"{sent.fate}, and {state} {row['reason'] or ''}".rstrip())


def _nobody_is_left_behind(case: Case) -> Iterator[Finding]:
    """Also those of whose acceptance nobody was told end, and nothing is there that nobody asked for."""
    for row in case.evidence.generations:
        if row["id"] not in case.accepted and row["state"] not in FINAL_STATES:
            yield Finding(kind="lost", id=row["id"], sentence=f"{row['state']} for ever, its client being dead")
        if row["request_id"] not in case.sent:
            yield Finding(kind="wrong", id=row["id"], sentence="nobody asked for it")
        elif row["prompt"] != case.sent[row["request_id"]].prompt:
            yield Finding(kind="wrong", id=row["id"], sentence="another prompt than was asked for")


def _one_request_is_one_generation(case: Case) -> Iterator[Finding]:
    ids: dict[str, set[str]] = defaultdict(set)
    for fact in case.of(Accepted):
        ids[fact.request_id].add(fact.id)
    for row in case.evidence.generations:
        ids[row["request_id"]].add(row["id"])
    for request_id, several in ids.items():
        if len(several) > 1:
            yield Finding(kind="doubled", id=request_id, sentence=f"one request_id, {len(several)} generations")
    requests = defaultdict(set)
    for fact in case.of(Accepted):
        requests[fact.id].add(fact.request_id)
    for id_, several in requests.items():
        if len(several) > 1:
            yield Finding(kind="lost", id=id_, sentence=f"one generation for {len(several)} request_ids")


# The record against itself.


def _final_once(case: Case) -> Iterator[Finding]:
    for row in case.evidence.generations:
        events = case.events.get(row["id"], [])
        if [event["revision"] for event in events] != list(range(1, row["revision"] + 1)):
            yield Finding(kind="wrong", id=row["id"], sentence="its events have a gap")
        if sum(event["state"] in FINAL_STATES for event in events) > 1:
            yield Finding(kind="doubled", id=row["id"], sentence="more than one final event")
        if events and events[-1]["state"] != row["state"]:
            yield Finding(kind="wrong", id=row["id"], sentence="its last event is not its state")
        if any(event["state"] in FINAL_STATES for event in events[:-1]):
            yield Finding(kind="wrong", id=row["id"], sentence="something happened after its final event")


def _one_result_set(case: Case) -> Iterator[Finding]:
    for row in case.evidence.generations:
        attempts = case.attempts.get(row["id"], [])
        winners = [attempt["object_prefix"] for attempt in attempts if attempt["outcome"] == "SUCCEEDED"]
        keys = [stored["object_key"] for stored in row["images"] or ()]
        if len(winners) > 1:
            yield Finding(kind="doubled", id=row["id"], sentence="more than one attempt delivered")
        if row["state"] != "SUCCEEDED":
            if keys or winners:
                yield Finding(kind="wrong", id=row["id"], sentence=f"{row['state']}, with pictures")
            continue
        prefixes = {key.rpartition("/")[0] + "/" for key in keys}
        if len(prefixes) > 1:
            yield Finding(kind="doubled", id=row["id"], sentence="pictures of more than one attempt")
        elif prefixes != set(winners):
            yield Finding(kind="wrong", id=row["id"], sentence="pictures of another attempt than the one that won")
        sent = case.sent.get(row["request_id"])
        indexes = sorted(int(stored["image"].get("index", 0)) for stored in row["images"] or ())
        if sent is not None and indexes != list(range(sent.image_count)):
            yield Finding(kind="wrong", id=row["id"], sentence=f"pictures {indexes} of {sent.image_count}")


def _all_is_at_rest(case: Case) -> Iterator[Finding]:
    for row in case.evidence.generations:
        if row["state"] in FINAL_STATES and row["lease_expire_time"] is not None:
            yield Finding(kind="wrong", id=row["id"], sentence="final, with a live lease")
        for attempt in case.attempts.get(row["id"], []):
            if attempt["outcome"] is None:
                yield Finding(kind="wrong", id=row["id"], sentence=f"attempt {attempt['number']} never ended")
    for message in case.evidence.unreadable_messages:
        yield Finding(kind="wrong", id=message["subject"], sentence=f"an unreadable message: {message['error']}")


def _rubbish_is_put_down(case: Case) -> Iterator[Finding]:
    """Every prefix but the winner's is to be deleted, and the winner's is not."""
    deletions = set(case.evidence.object_deletions)
    for row in case.evidence.generations:
        if row["state"] not in FINAL_STATES:
            continue
        keys = [stored["object_key"] for stored in row["images"] or ()]
        for attempt in case.attempts.get(row["id"], []):
            is_needed = any(key.startswith(attempt["object_prefix"]) for key in keys)
            if is_needed == (attempt["object_prefix"] in deletions):
                fault = (
                    "is to be deleted, and holds the result" if is_needed else "is of no use, and is not to be deleted"
                )
                yield Finding(kind="wrong", id=row["id"], sentence=f"the prefix of attempt {attempt['number']} {fault}")


# The bucket.


def _objects_are_there(case: Case) -> Iterator[Finding]:
    for row in case.evidence.generations:
        for stored in row["images"] or ():
            key, image = stored["object_key"], stored["image"]
            found = case.evidence.objects.get(key)
            if found is None:
                yield Finding(kind="wrong", id=row["id"], sentence=f"{key} is not in the bucket")
                continue
            if (found.sha256, found.size_bytes) != (image["sha256"], int(image["size_bytes"])):
                yield Finding(kind="wrong", id=row["id"], sentence=f"{key} is not what was stored: its SHA-256 differs")
            if not found.is_as_asked:
                yield Finding(kind="wrong", id=row["id"], sentence=f"{key} shows another picture than was asked for")
            sent = case.sent.get(row["request_id"])
            seed, index = int(image.get("seed", 0)), int(image.get("index", 0))
            if sent is not None and sent.seed is not None and seed != sent.seed + index:
                yield Finding(
                    kind="wrong", id=row["id"], sentence=f"drawn with the seed {seed}, not {sent.seed + index}"
                )


# What clients saw.


def _cancelled_stays_cancelled(case: Case) -> Iterator[Finding]:
    for fact in case.of(CancelAnswered):
        if fact.state not in FINAL_STATES:
            yield Finding(kind="wrong", id=fact.id, sentence=f"{fact.state} after a cancel")
        row = case.generations.get(fact.id)
        if row is not None and row["state"] != fact.state:
            yield Finding(kind="wrong", id=fact.id, sentence=f"{fact.state} after a cancel, and {row['state']} later")


def _everybody_sees_the_same(case: Case) -> Iterator[Finding]:
    """What a revision is does not depend on who looks when, and a final one is what the record holds."""
    for id_, seen in case.seen.items():
        meanings: dict[int, set[tuple[str, int]]] = defaultdict(set)
        for fact in seen:
            meanings[fact.revision].add((fact.state, fact.attempt))
        for revision, several in meanings.items():
            if len(several) > 1:
                yield Finding(kind="wrong", id=id_, sentence=f"revision {revision} is {sorted(several)}")
        finals = {(fact.revision, fact.state, fact.failure_reason) for fact in seen if fact.state in FINAL_STATES}
        if len(finals) > 1:
            yield Finding(kind="doubled", id=id_, sentence=f"several final states were seen: {sorted(finals)}")
        if len({tuple(fact.images) for fact in seen if fact.state in FINAL_STATES}) > 1:
            yield Finding(kind="doubled", id=id_, sentence="several sets of pictures were seen")
        yield from _is_as_recorded(case.generations.get(id_), case.events.get(id_, []), meanings)


def _is_as_recorded(
    row: Row | None, events: Sequence[Row], meanings: Mapping[int, set[tuple[str, int]]]
) -> Iterator[Finding]:
    recorded = {event["revision"]: (event["state"], event["attempt"]) for event in events}
    for revision, told in meanings.items():
        if row is not None and told != {recorded.get(revision)}:
            sentence = f"revision {revision} was told as {sorted(told)} and is recorded as {recorded.get(revision)}"
            yield Finding(kind="wrong", id=row["id"], sentence=sentence)


def _pictures_are_told_as_recorded(case: Case) -> Iterator[Finding]:
    for id_, seen in case.seen.items():
        row = case.generations.get(id_)
        stored = [stored["image"] for stored in (row["images"] if row else None) or ()]
        recorded = [(int(image.get("index", 0)), image["sha256"], int(image["size_bytes"])) for image in stored]
        for fact in seen:
            if fact.state == "SUCCEEDED" and list(fact.images) != recorded:
                yield Finding(kind="wrong", id=id_, sentence=f"{fact.by} was told of other pictures than are recorded")


def _nobody_goes_back(case: Case) -> Iterator[Finding]:
    """Each client sees revisions grow, and no answer is older than what anybody knew before the question."""
    for id_, seen in case.seen.items():
        latest: dict[str, int] = {}
        for fact in seen:
            if fact.revision < latest.get(fact.by, 0):
                sentence = f"{fact.by} saw revision {fact.revision} after {latest[fact.by]}"
                yield Finding(kind="wrong", id=id_, sentence=sentence)
            latest[fact.by] = max(latest.get(fact.by, 0), fact.revision)
            known = max(
                (other.revision for other in seen if fact.asked is not None and other.at < fact.asked), default=0
            )
            if fact.revision < known:
                sentence = f"{fact.gateway} answered with revision {fact.revision} when {known} was known already"
                yield Finding(kind="wrong", id=id_, sentence=sentence)


def _no_gaps(case: Case) -> Iterator[Finding]:
    """Within a stream, and from a resume token into the next one, no change of state is left out or told twice."""
    streams: dict[int, list[Seen]] = defaultdict(list)
    for fact in case.of(Seen):
        if fact.stream is not None:
            streams[fact.stream].append(fact)
    for started in case.of(WatchStarted):
        revisions = [fact.revision for fact in streams[started.stream]]
        if revisions and started.revision and revisions[0] not in (started.revision, started.revision + 1):
            sentence = f"{started.by} resumed after revision {started.revision} and was told of {revisions[0]}"
            yield Finding(kind="wrong", id=started.id, sentence=sentence)
        for before, after in pairwise(revisions):
            if after != before + 1:
                sentence = f"{started.by} was told of revision {after} right after {before}"
                yield Finding(kind="wrong", id=started.id, sentence=sentence)


def _every_watch_ends(case: Case) -> Iterator[Finding]:
    ends = {fact.stream: fact.how for fact in case.of(WatchEnded)}
    last = {fact.stream: fact for fact in case.of(Seen) if fact.stream is not None}
    for started in case.of(WatchStarted):
        how = ends.get(started.stream)
        if how is None:
            yield Finding(kind="wrong", id=started.id, sentence=f"a stream of {started.by} never ended")
        elif how == WatchEnded.OK and (started.stream not in last or last[started.stream].state not in FINAL_STATES):
            yield Finding(kind="wrong", id=started.id, sentence=f"a stream of {started.by} ended with OK too early")
    satisfied = {(fact.by, fact.id) for fact in last.values() if fact.state in FINAL_STATES}
    for watching in case.of(Watching):
        if (watching.by, watching.id) not in satisfied:
            yield Finding(kind="wrong", id=watching.id, sentence=f"the watch of {watching.by} never came to an end")


def _gateways_agree(case: Case) -> Iterator[Finding]:
    """At the end everything that was accepted was asked for at both gateways."""
    answers: dict[str, dict[str, Seen]] = defaultdict(dict)
    for fact in case.of(Seen):
        if fact.by == INSPECTOR:
            answers[fact.id][fact.gateway] = fact
    for id_ in case.accepted:
        told = {(fact.revision, fact.state, tuple(fact.images)) for fact in answers[id_].values()}
        if len(answers[id_]) < GATEWAYS:
            yield Finding(kind="wrong", id=id_, sentence="a gateway does not tell how it ended")
        elif len(told) > 1:
            yield Finding(kind="wrong", id=id_, sentence="the gateways do not agree")


def _nothing_strange(case: Case) -> Iterator[Finding]:
    for refused in case.of(Refused):
        yield Finding(kind="wrong", id=refused.subject, sentence=f"{refused.by}: {refused.problem}")
    for fell in case.of(Fell):
        yield Finding(kind="wrong", id=fell.component, sentence=fell.problem)
    for struck in case.of(Struck):
        if struck.recovery_seconds is None:
            sentence = f"no picture after strike {struck.number}, {struck.action}"
            yield Finding(kind="wrong", id=struck.component, sentence=sentence)


#: Who asks both gateways about everything at the end.
INSPECTOR = "inspector"
GATEWAYS = 2

CHECKS = (
    _ends_as_it_should,
    _nobody_is_left_behind,
    _one_request_is_one_generation,
    _final_once,
    _one_result_set,
    _all_is_at_rest,
    _rubbish_is_put_down,
    _objects_are_there,
    _cancelled_stays_cancelled,
    _everybody_sees_the_same,
    _pictures_are_told_as_recorded,
    _nobody_goes_back,
    _no_gaps,
    _every_watch_ends,
    _gateways_agree,
    _nothing_strange,
)


def count(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Count what was lost, doubled and wrong, each generation once."""
    kinds = Counter(kind for kind, _ in {(finding.kind, finding.id) for finding in findings})
    return {"lost": kinds["lost"], "doubled": kinds["doubled"], "wrong": kinds["wrong"]}


def _grouped(rows: Sequence[Row]) -> Mapping[str, Sequence[Row]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["id"]].append(row)
    return grouped


def main(folder: Path) -> int:
    """Check a kept run again, and return the exit status."""
    findings = check(journal.read(folder / "journal.jsonl"), Evidence.read(folder / "evidence.json"))
    for finding in findings:
        print(f"{finding.kind}  {finding.id}  {finding.sentence}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

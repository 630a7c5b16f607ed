"""A short history in which every promise is kept, and ways to doctor it."""

from dataclasses import dataclass, replace
from typing import Any

from tests.chaos.checks import INSPECTOR, Finding, check
from tests.chaos.evidence import Evidence, StoredObject
from tests.chaos.journal import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    Fact,
    Fate,
    Seen,
    Sent,
    Struck,
    WatchEnded,
    Watching,
    WatchStarted,
)

STATES = ("QUEUED", "RUNNING", "QUEUED", "RUNNING", "SUCCEEDED")
ATTEMPTS = (0, 1, 1, 2, 2)
SHA256 = "a" * 64
SIZE = 7


@dataclass
class History:
    """Facts and evidence of one generation, `drawn`: lost once, drawn, and watched over two streams."""

    facts: list[Fact]
    generations: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    events: list[dict[str, Any]]
    object_deletions: list[str]
    objects: dict[str, StoredObject]

    def check(self) -> list[Finding]:
        timed = [replace(fact, at=float(second)) for second, fact in enumerate(self.facts)]
        evidence = Evidence(
            generations=self.generations,
            attempts=self.attempts,
            events=self.events,
            object_deletions=self.object_deletions,
            objects=self.objects,
        )
        return list(check(timed, evidence))

    def change(self, kind: type[Fact], index: int = 0, **fields: Any) -> None:
        """Change the facts of a kind, counted in their order."""
        place = [place for place, fact in enumerate(self.facts) if isinstance(fact, kind)][index]
        self.facts[place] = replace(self.facts[place], **fields)

    def remove(self, kind: type[Fact], index: int = 0) -> None:
        place = [place for place, fact in enumerate(self.facts) if isinstance(fact, kind)][index]
        del self.facts[place]

    def end_as(self, state: str) -> None:
        """Have the generation end in another state, in everybody's eyes."""
        self.generations[0] |= {"state": state, "images": None}
        self.events[-1]["state"] = state
        self.attempts[-1]["outcome"] = "STOPPED"
        self.object_deletions.append(self.attempts[-1]["object_prefix"])
        self.facts = [
            replace(fact, state=state, images=[]) if isinstance(fact, Seen) and fact.state == "SUCCEEDED" else fact
            for fact in self.facts
        ]

    def cancel(self) -> None:
        """Have somebody cancel it in time."""
        self.end_as("CANCELLED")
        self.facts += [
            CancelAsked(id="drawn", by="another"),
            CancelAnswered(id="drawn", state="CANCELLED", by="another"),
        ]


def history() -> History:
    """Make it."""
    keys = [f"results/drawn/2-n/{index}.png" for index in range(2)]
    images = [
        {
            "image": {"index": index, "seed": str(5 + index), "sha256": SHA256, "size_bytes": str(SIZE)},
            "object_key": key,
        }
        for index, key in enumerate(keys)
    ]
    return History(
        facts=[
            Sent(request_id="wish", fate=Fate.HEALTHY, image_count=2, prompt="a castle", seed=5, by="client"),
            Accepted(request_id="wish", id="drawn", by="client"),
            seen(1),
            Watching(id="drawn", by="client"),
            WatchStarted(id="drawn", stream=1, revision=0, by="client"),
            *(seen(revision, stream=1) for revision in (1, 2, 3)),
            WatchEnded(id="drawn", stream=1, how="UNAVAILABLE", by="client"),
            WatchStarted(id="drawn", stream=2, revision=3, by="client"),
            *(seen(revision, stream=2) for revision in (4, 5)),
            WatchEnded(id="drawn", stream=2, how=WatchEnded.OK, by="client"),
            Struck(
                number=1,
                component="nats",
                action="kill",
                outage_seconds=1,
                serving_seconds=1,
                recovery_seconds=2,
                by="nemesis",
            ),
            seen(5, by=INSPECTOR),
            seen(5, by=INSPECTOR, gateway="gateway-2"),
        ],
        generations=[
            {
                "id": "drawn",
                "request_id": "wish",
                "state": "SUCCEEDED",
                "revision": 5,
                "attempt": 2,
                "lease_expire_time": None,
                "images": images,
                "reason": None,
                "prompt": "a castle",
            }
        ],
        attempts=[
            {"id": "drawn", "number": 1, "object_prefix": "results/drawn/1-n/", "outcome": "LOST"},
            {"id": "drawn", "number": 2, "object_prefix": "results/drawn/2-n/", "outcome": "SUCCEEDED"},
        ],
        events=[
            {"id": "drawn", "revision": revision, "state": state, "attempt": attempt}
            for revision, (state, attempt) in enumerate(zip(STATES, ATTEMPTS, strict=True), start=1)
        ],
        object_deletions=["results/drawn/1-n/"],
        objects={key: StoredObject(sha256=SHA256, size_bytes=SIZE, is_as_asked=True) for key in keys},
    )


def seen(revision: int, *, stream: int | None = None, by: str = "client", gateway: str = "gateway") -> Seen:
    """See the generation of the history at one of its revisions."""
    return Seen(
        id="drawn",
        revision=revision,
        state=STATES[revision - 1],
        attempt=ATTEMPTS[revision - 1],
        images=[(0, SHA256, SIZE), (1, SHA256, SIZE)] if revision == len(STATES) else [],
        failure_reason="",
        gateway=gateway,
        asked=None,
        stream=stream,
        by=by,
    )

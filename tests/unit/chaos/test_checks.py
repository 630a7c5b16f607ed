"""The offline check finds every kind of fault in a history that was doctored, and none in the one that was not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checks import Finding, count
from tests.chaos.evidence import StoredObject
from tests.chaos.journal import Accepted, CancelAnswered, Fate, Fell, Refused, Seen, Sent, Struck, WatchEnded
from tests.unit.chaos.history import SHA256, SIZE, History, history, seen

Doctor = Callable[[History], object]


def test_a_history_without_fault() -> None:
    assert history().check() == []


def test_a_cancelled_one_without_fault() -> None:
    told = history()
    told.cancel()
    assert told.check() == []


def test_one_that_may_expire() -> None:
    told = history()
    told.change(Sent, fate=Fate.HURRIED)
    told.end_as("EXPIRED")
    assert told.check() == []


def _vanish(told: History) -> None:
    told.generations.clear()


def _stay_queued(told: History) -> None:
    told.generations[0] |= {"state": "QUEUED", "images": None, "revision": 1}


def _fail(told: History) -> None:
    told.end_as("FAILED")
    told.generations[0]["reason"] = "FAILURE_REASON_DEAD_LETTER"


def _share_a_generation(told: History) -> None:
    told.facts += [
        Sent(request_id="other", fate=Fate.HEALTHY, image_count=2, prompt="a castle", seed=5),
        Accepted(request_id="other", id="drawn"),
    ]


@pytest.mark.parametrize(
    "doctor",
    [
        pytest.param(_vanish, id="not in the record"),
        pytest.param(_stay_queued, id="never final"),
        pytest.param(_fail, id="healthy and FAILED"),
        pytest.param(lambda told: told.end_as("EXPIRED"), id="healthy and EXPIRED"),
        pytest.param(lambda told: told.end_as("CANCELLED"), id="cancelled by nobody"),
        pytest.param(_share_a_generation, id="two requests, one generation"),
    ],
)
def test_a_lost_one(doctor: Doctor) -> None:
    assert _found(doctor, "lost")


def test_a_lost_one_of_a_dead_client() -> None:
    told = history()
    told.facts = [fact for fact in told.facts if isinstance(fact, Sent)]
    _stay_queued(told)
    assert "its client being dead" in _sentences(told.check(), "lost")


def _accept_twice(told: History) -> None:
    told.facts.append(Accepted(request_id="wish", id="another"))


def _record_twice(told: History) -> None:
    told.generations.append({**told.generations[0], "id": "another"})


def _end_twice(told: History) -> None:
    told.events[3]["state"] = "FAILED"


def _deliver_twice(told: History) -> None:
    told.attempts[0]["outcome"] = "SUCCEEDED"


def _mix_attempts(told: History) -> None:
    stored = told.generations[0]["images"][0]
    told.objects["results/drawn/1-n/0.png"] = told.objects[stored["object_key"]]
    stored["object_key"] = "results/drawn/1-n/0.png"


@pytest.mark.parametrize(
    "doctor",
    [
        pytest.param(_accept_twice, id="one request, two answers"),
        pytest.param(_record_twice, id="one request, two rows"),
        pytest.param(_end_twice, id="two final events"),
        pytest.param(_deliver_twice, id="two results"),
        pytest.param(_mix_attempts, id="one result of two attempts"),
        pytest.param(lambda told: told.change(Seen, -1, state="FAILED", images=[]), id="two final states seen"),
        pytest.param(lambda told: told.change(Seen, -1, images=[(0, "b" * 64, SIZE)]), id="two sets of pictures seen"),
    ],
)
def test_a_doubled_one(doctor: Doctor) -> None:
    assert _found(doctor, "doubled")


def _succeed_after_cancel(told: History) -> None:
    told.facts.append(CancelAnswered(id="drawn", state="CANCELLED"))


def _fail_otherwise(told: History) -> None:
    told.change(Sent, fate=Fate.MODEL_ERROR)
    _fail(told)


def _lose_a_picture(told: History) -> None:
    del told.generations[0]["images"][1]
    told.facts = [_without_second_picture(fact) if isinstance(fact, Seen) else fact for fact in told.facts]


def _without_second_picture(fact: Seen) -> Seen:
    return replace(fact, images=fact.images[:1])


def _store(*, sha256: str = SHA256, is_as_asked: bool = True) -> Doctor:
    def doctor(told: History) -> None:
        stored = StoredObject(sha256=sha256, size_bytes=SIZE, is_as_asked=is_as_asked)
        told.objects["results/drawn/2-n/1.png"] = stored

    return doctor


def _lose_the_object(told: History) -> None:
    del told.objects["results/drawn/2-n/1.png"]


def _never_end_an_attempt(told: History) -> None:
    told.attempts[0]["outcome"] = None


def _hold_a_lease(told: History) -> None:
    told.generations[0]["lease_expire_time"] = "2026-01-01"


def _change_the_prompt(told: History) -> None:
    told.generations[0]["prompt"] = "a cottage"


def _leave_out_an_event(told: History) -> None:
    del told.events[2]


def _see_an_older_one(told: History) -> None:
    """Another client, who asked after the end was known."""
    told.facts.append(seen(3, by="another"))
    told.change(Seen, -1, asked=len(told.facts) - 1.5)


WRONGS: dict[str, tuple[Doctor, str]] = {
    "cancelled and SUCCEEDED": (_succeed_after_cancel, "CANCELLED after a cancel, and SUCCEEDED later"),
    "a cancel without effect": (
        lambda told: told.facts.append(CancelAnswered(id="drawn", state="RUNNING")),
        "RUNNING after a cancel",
    ),
    "unhealthy, and FAILED for another reason": (_fail_otherwise, "should be FAILED with MODEL_ERROR"),
    "unhealthy, and SUCCEEDED": (lambda told: told.change(Sent, fate=Fate.OUT_OF_MEMORY), "should be FAILED"),
    "another prompt": (_change_the_prompt, "another prompt"),
    "asked for by nobody": (lambda told: told.remove(Sent), "nobody asked for it"),
    "a picture too few": (_lose_a_picture, "pictures [0] of 2"),
    "an event missing": (_leave_out_an_event, "its events have a gap"),
    "an attempt without end": (_never_end_an_attempt, "attempt 1 never ended"),
    "a live lease": (_hold_a_lease, "a live lease"),
    "rubbish forgotten": (lambda told: told.object_deletions.clear(), "attempt 1 is of no use"),
    "the result to be deleted": (
        lambda told: told.object_deletions.append("results/drawn/2-n/"),
        "attempt 2 is to be deleted",
    ),
    "no object": (_lose_the_object, "is not in the bucket"),
    "another object": (_store(sha256="b" * 64), "its SHA-256 differs"),
    "another picture": (_store(is_as_asked=False), "shows another picture"),
    "another seed": (lambda told: told.change(Sent, seed=6), "drawn with the seed 5, not 6"),
    "told of another attempt": (lambda told: told.change(Seen, 1, attempt=2), "revision 1 is ["),
    "told otherwise than recorded": (lambda told: told.events[1].update(attempt=2), "and is recorded as"),
    "told of other pictures": (
        lambda told: told.generations[0]["images"][0]["image"].update(sha256="b" * 64),
        "other pictures than are recorded",
    ),
    "a gap within a stream": (lambda told: told.remove(Seen, 2), "was told of revision 3 right after 1"),
    "a gap between streams": (lambda told: told.remove(Seen, 4), "resumed after revision 3 and was told of 5"),
    "told twice": (lambda told: told.facts.insert(6, seen(1, stream=1)), "was told of revision 1 right after 1"),
    "going back": (lambda told: told.facts.append(seen(3)), "client saw revision 3 after 5"),
    "an old answer": (_see_an_older_one, "when 5 was known already"),
    "a stream without end": (lambda told: told.remove(WatchEnded, 0), "never ended"),
    "a stream that ends too early": (
        lambda told: told.change(WatchEnded, 0, how=WatchEnded.OK),
        "ended with OK too early",
    ),
    "a watch without end": (lambda told: told.remove(Seen, 5), "the watch of client never came to an end"),
    "a gateway that does not know": (lambda told: told.remove(Seen, -1), "a gateway does not tell"),
    "gateways that differ": (lambda told: told.change(Seen, -1, revision=6), "the gateways do not agree"),
    "a refusal": (lambda told: told.facts.append(Refused(subject="wish", problem="INTERNAL", by="client")), "INTERNAL"),
    "a process that fell": (lambda told: told.facts.append(Fell(component="worker", problem="status 1")), "status 1"),
    "no recovery": (lambda told: told.change(Struck, recovery_seconds=None), "no picture after strike 1"),
}


@pytest.mark.parametrize(("doctor", "sentence"), WRONGS.values(), ids=WRONGS)
def test_a_wrong_one(doctor: Doctor, sentence: str) -> None:
    told = history()
    doctor(told)
    assert sentence in _sentences(told.check(), "wrong")


def test_each_generation_counts_once() -> None:
    findings = [Finding(kind="lost", id=id_, sentence=sentence) for id_ in "ab" for sentence in ("one", "another")]
    assert count(findings) == {"lost": 2, "doubled": 0, "wrong": 0}


def _found(doctor: Doctor, kind: str) -> bool:
    told = history()
    doctor(told)
    return any(finding.kind == kind for finding in told.check())


def _sentences(findings: list[Finding], kind: str) -> str:
    return "\n".join(finding.sentence for finding in findings if finding.kind == kind)

"""The comparison: the same kills for all, and what counts as lost or drawn twice."""

from tests.chaos.compare import trial
from tests.chaos.compare.clients import Job


def test_the_seed_repeats_the_kills() -> None:
    assert trial.schedule(seed=3, kills=20) == trial.schedule(seed=3, kills=20)
    assert trial.schedule(seed=3, kills=20) != trial.schedule(seed=4, kills=20)


def test_what_was_accepted_and_not_done_is_lost() -> None:
    jobs = [
        Job(id="done", created=0.0, finished=2.0),
        Job(id="twice", created=0.5, finished=3.0),
        Job(id="lost", created=0.5),
    ]
    drawings = {"done": 1, "twice": 2}
    told = trial._report(jobs, [(1.0, trial.WORKER), (5.0, trial.BROKER)], drawings, seconds=4.0)
    assert (told["accepted"], told["lost"], told["drawn_more_than_once"]) == (3, 1, 1)
    assert told["per_second"] == 0.5
    assert told["wait_seconds"]["max"] == 2.5
    # All that was under way at the kill of the worker was done two seconds later; at that of the broker nothing was.
    assert told["recovery_seconds"] == {trial.BROKER: {}, trial.WORKER: {"p50": 2.0, "p99": 2.0}}

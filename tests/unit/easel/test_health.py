"""What probes are told."""

from easel.health import EVENT_LOOP_PATIENCE_SECONDS, Health, Sighting


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_was_never_seen_is_missing_and_what_was_seen_may_stay_away_for_a_while() -> None:
    clock = Clock()
    database = Sighting(patience_seconds=15, clock=clock)
    assert database() == "not yet"
    database.note()
    clock.now += 15
    assert database() == ""
    clock.now += 2
    assert database() == "not for 17 s"
    database.note()
    assert database() == ""


def test_what_needs_to_be_seen_but_once_is_never_missed_again() -> None:
    clock = Clock()
    streams = Sighting(clock=clock)
    streams.note()
    clock.now += 1e9
    assert streams() == ""


def test_a_process_is_ready_when_nothing_is_missing_and_until_it_stops() -> None:
    health = Health()
    assert health.readiness().good
    lacks = {"database": "not yet", "streams": ""}
    health.require_to_be_ready("database", lambda: lacks["database"])
    health.require_to_be_ready("streams", lambda: lacks["streams"])
    assert not health.readiness().good
    assert str(health.readiness()) == "no database: not yet\nok streams: ok\n"
    lacks["database"] = ""
    assert health.readiness().good
    health.stop()
    assert not health.readiness().good
    assert "stopping" in str(health.readiness())


def test_what_keeps_it_from_being_ready_is_no_reason_to_start_it_anew() -> None:
    health = Health()
    health.event_loop.note()
    health.require_to_be_ready("database", lambda: "not yet")
    assert health.liveness().good
    health.require_to_live("device", lambda: "answers no more")
    assert not health.liveness().good


def test_an_event_loop_that_stands_still_ends_its_process_and_a_busy_one_does_not() -> None:
    health = Health()
    clock = Clock()
    health.event_loop = health._liveness["event loop"] = Sighting(
        patience_seconds=EVENT_LOOP_PATIENCE_SECONDS, clock=clock
    )
    assert not health.liveness().good
    health.event_loop.note()
    clock.now += EVENT_LOOP_PATIENCE_SECONDS - 1
    assert health.liveness().good
    clock.now += 2
    assert str(health.liveness()) == f"no event loop: not for {EVENT_LOOP_PATIENCE_SECONDS + 1:.0f} s\n"

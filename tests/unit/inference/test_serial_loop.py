"""The doings of an engine that draws one request after the other."""

import time
from dataclasses import dataclass, field

from inference.engine.engine import DrawRequest, Event, Finished
from inference.engine.observer import Work
from inference.engine.pulse import Pulse
from inference.engine.serial_loop import SerialLoop
from tests.unit.inference.recording_observer import RecordingObserver
from tests.unit.inference.scripted_adapter import ScriptedWholeAdapter, draw_request


@dataclass
class Recorded:
    request: DrawRequest
    taken_at: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_what_it_does_is_observed() -> None:
    observer, order = RecordingObserver(), Recorded(draw_request(steps=3, image_count=2))
    loop = SerialLoop(ScriptedWholeAdapter(), Pulse(), observer=observer)
    loop.take(order)

    loop.tick()

    assert isinstance(order.events[-1], Finished)
    assert len(observer.steps) == 6
    assert 0 <= sum(observer.steps) <= observer.seconds[Work.DENOISING]

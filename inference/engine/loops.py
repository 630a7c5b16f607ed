"""What an engine's thread does over and over, and which way of doing it suits a model."""

from typing import Protocol, cast

from inference.engine.adapter import Adapter, StepAdapter, Traits, WholeAdapter
from inference.engine.batch_loop import BatchLoop
from inference.engine.cost_model import CostModel
from inference.engine.drawing import Order
from inference.engine.observer import UNOBSERVED, Observer
from inference.engine.pulse import Pulse
from inference.engine.serial_loop import SerialLoop


class Loop(Protocol):
    """One round of work after another, on the engine's thread."""

    def warm_up(self) -> Traits:
        """Prepare the model, find out what there is room for, and say what the model can do."""
        ...

    def take(self, order: Order) -> None:
        """Take in a request."""
        ...

    def tick(self) -> None:
        """Do one round of work.

        Raises:
            DeviceLost: nothing can be done any more.
        """
        ...

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        ...

    @property
    def slots(self) -> int:
        """How many requests can be drawn at once, those in hand among them."""
        ...


def loop_for(adapter: Adapter, pulse: Pulse, *, most_rows: int, observer: Observer = UNOBSERVED) -> Loop:
    """Draw many requests at once where the model is cut at its steps, else one by one.

    Args:
        adapter: The model.
        pulse: Is told how long each doing may take.
        most_rows: How many rows a batch has at most, whatever pays.
        observer: Is told what is done.
    """
    if isinstance(adapter, WholeAdapter):
        return SerialLoop(adapter, pulse, observer=observer)
    return BatchLoop(cast(StepAdapter, adapter), CostModel(most_rows=most_rows), pulse, observer=observer)

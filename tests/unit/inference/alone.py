"""Draws a picture with an adapter's own methods, alone in its batch."""

from collections.abc import Callable
from typing import Any

from inference.engine.adapter import WholeAdapter
from inference.engine.engine import DrawRequest, Pixels


def draw(adapter: Any, request: DrawRequest) -> Pixels:
    """Draw the first picture of a request."""
    if isinstance(adapter, WholeAdapter):
        return adapter.draw(request, seed=request.seed, on_evaluation=lambda *_evaluation: None)
    pictures: list[Pixels] = adapter.decode([denoise(adapter, request)])
    return pictures[0]


def denoise(adapter: Any, request: DrawRequest, *, look: Callable[[Any], None] = lambda _state: None) -> Any:
    """Take all its steps, looking at it after each evaluation."""
    state = adapter.begin(request, adapter.encode(request), seed=request.seed)
    for _ in range(state.evaluations):
        (prediction,) = adapter.evaluate([state])
        adapter.advance(state, prediction)
        look(state)
    return state

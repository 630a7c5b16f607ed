"""Remembers what prompts became: many requests say the same, and the negative prompt is nearly always the same."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from inference.engine.observer import UNOBSERVED, Observer

Value = TypeVar("Value")


class EmbeddingCache(Generic[Value]):
    """Keeps what was used last, up to so many bytes.

    It is asked by one thread alone, so that nothing is ever computed twice at the same time.

    Args:
        most_bytes: How much it keeps; 0 keeps nothing.
        size_bytes: Says how much a value takes.
        observer: Is told what was there and what was not.
    """

    def __init__(self, *, most_bytes: int, size_bytes: Callable[[Value], int], observer: Observer = UNOBSERVED) -> None:
        self._observer = observer
        self._most_bytes = most_bytes
        self._size_bytes = size_bytes
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Give a value, computed only if it is not there."""
        self._observer.lookup(hit=key in self._values)
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = compute()
        self._keep(key, value)
        return value

    def _keep(self, key: Hashable, value: Value) -> None:
        size = self._size_bytes(value)
        if size > self._most_bytes:
            return
        self._values[key] = value
        self.bytes += size
        while self.bytes > self._most_bytes:
            _, oldest = self._values.popitem(last=False)
            self.bytes -= self._size_bytes(oldest)

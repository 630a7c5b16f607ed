"""How much of a device's memory is taken."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from loguru import logger

from inference.engine.observer import Observer

#: Asking takes some microseconds, and a step of a small model not much more.
INTERVAL_SECONDS = 1.0
_RESIDENT = Path("/proc/self/statm")


class MemoryGauge:
    """Tells an observer now and then.

    Args:
        device: Whose memory. A GPU's is what is taken by whomever; of the CPU's, what this process takes of the
            machine's.
        observer: Who is told.
    """

    def __init__(
        self, device: torch.device, observer: Observer, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._device = device
        self._observer = observer
        self._clock = clock
        self._next_at = 0.0

    def look(self) -> None:
        """Tell, unless that was done a moment ago."""
        if self._clock() < self._next_at:
            return
        self._next_at = self._clock() + INTERVAL_SECONDS
        try:
            used_bytes, total_bytes = read(self._device)
        except (OSError, RuntimeError) as error:
            # A gauge is worth no picture.
            logger.warning("cannot tell how much memory is taken: {}", type(error).__name__, action="memory_unknown")
            self._next_at = math.inf
            return
        self._observer.memory(used_bytes=used_bytes, total_bytes=total_bytes)


def read(device: torch.device) -> tuple[int, int]:
    """Read how much of a device's memory is taken, and how much it has, in bytes; 0 where there is no telling."""
    match device.type:
        case "cuda":
            free, total = torch.cuda.mem_get_info(device)
            return total - free, total
        case "mps":
            return torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
    page = os.sysconf("SC_PAGE_SIZE")
    resident = int(_RESIDENT.read_text().split()[1]) * page if _RESIDENT.exists() else 0
    return resident, os.sysconf("SC_PHYS_PAGES") * page

"""How much of a device's memory is taken."""

import pytest
import torch

from inference.engine import device_memory
from inference.engine.device_memory import INTERVAL_SECONDS, MemoryGauge
from tests.unit.inference.recording_observer import RecordingObserver


def test_of_the_cpu_it_is_what_this_process_takes_of_the_machine() -> None:
    used_before, total = device_memory.read(torch.device("cpu"))
    assert 0 < used_before < total
    ballast = bytearray(b"x" * 64 * 2**20)
    used, _ = device_memory.read(torch.device("cpu"))
    assert used - used_before > len(ballast) // 2


def test_a_gpu_tells_what_is_taken_by_whomever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (30, 100))
    assert device_memory.read(torch.device("cuda")) == (70, 100)


def test_it_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "read", lambda _device: (1, 2))
    now, observer = 10.0, RecordingObserver()
    gauge = MemoryGauge(torch.device("cpu"), observer, clock=lambda: now)
    for _ in range(3):
        gauge.look()
    assert observer.memories == [(1, 2)]
    now += INTERVAL_SECONDS
    gauge.look()
    assert observer.memories == [(1, 2), (1, 2)]

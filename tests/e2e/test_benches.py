"""Measurements run, in small and not for their numbers, where that takes but seconds."""

import math

import pytest

from bench import accept, bounds, engine, gpu, levers, random_models, startup, traces
from tests.unit.inference import tiny_models


async def test_accept() -> None:
    (measured,) = await accept.measure(rounds=1, clients=2, seconds=0.2)
    assert 0 < measured.share < math.inf
    assert measured.dispatching_accepts_per_second > 0


def test_help_needs_nothing_heavy() -> None:
    assert startup.imported_by_help() == []


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own
async def test_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "STEPS", {2: 1, 4: 1})
    monkeypatch.setattr(engine, "CEILING_STEPS", 1)
    monkeypatch.setattr(engine, "CEILING_ROWS", (4, 8))
    monkeypatch.setattr("sys.argv", ["bench.engine", "--requests", "6", "--size", "64", "--threads", "1"])
    measured = await engine.measure(engine.options(), say=lambda _what: None)
    assert all(0 < run["rows_per_second"] < math.inf for run in measured.results["runs"])
    assert all(math.isfinite(target.value) for target in measured.targets)
    (target,) = (target for target in measured.targets if "cancel" in target.name)
    assert target.met


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own
def test_levers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levers, "MATRIX_SIDE", {"cpu": 32})
    arguments = "--size 64 --threads 1 --rows 1 2 --steps 1 --levers float32 bfloat16"
    monkeypatch.setattr("sys.argv", ["bench.levers", *arguments.split()])
    results = levers.measure(levers.options(), say=lambda _what: None).results
    assert results["row_flops"] > 0
    assert [each["lever"] for each in results["levers"]] == ["float32", "bfloat16"]
    for lever in results["levers"]:
        assert list(lever["step_seconds"]) == [1, 2]
        assert 0 < levers.best_flops(lever, row_flops=results["row_flops"]) < math.inf


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own
def test_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_models, "MODELS", {"sd15": tiny_models.sd, "sdxl": tiny_models.sdxl})
    monkeypatch.setattr(levers, "MATRIX_SIDE", {"cpu": 32})
    monkeypatch.setattr(traces, "STEPS", {2: 1, 4: 1})
    arguments = "--device cpu --dtype float32 --size 32 --levers float32 --threads 1 --requests 8"
    monkeypatch.setattr("sys.argv", ["bench.gpu", *arguments.split()])
    measured = gpu.measure(gpu.options(), say=lambda _what: None)
    assert measured.results["steps"].keys() == measured.results["contests"].keys() == {"sd15", "sdxl"}
    assert all(0 < target.value < math.inf for target in measured.targets)


async def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WARM_UP_CALLS", 0)
    monkeypatch.setattr(bounds, "WARM_UP_SECONDS", 0.2)
    filled: list[int] = []
    measured = await bounds.measure(rows=2_000, calls=1, seconds=1, on_progress=filled.append)
    assert filled == [1_000, 2_000]
    assert all(0 < cost.ratio < math.inf for cost in measured.costs.values())
    assert measured.reads.alone_ms.keys() >= {*bounds.READS, bounds.RENEWAL}
    assert all(told["calls"] > 0 for told in measured.reads.flood.values())
    assert bounds.summarise(measured).targets

"""What a worker measures, on a registry of its own."""

import asyncio
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from easel.v1.generation_pb2 import FailureReason
from easel.worker.v1.claim_pb2 import ClaimAnswer
from inference.engine.observer import Work
from inference.metrics import DROPPED, FAILED, SUCCEEDED, Metrics
from tests.unit.inference.conftest import MODEL


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def samples(registry: CollectorRegistry) -> Mapping[str, float]:
    """All samples but the times of creation."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_all_that_has_not_happened_yet_is_a_zero(registry: CollectorRegistry, metrics: Metrics) -> None:
    assert set(samples(registry).values()) == {0}
    for name, labels in (
        ("easel_steps_total", {"model": MODEL}),
        ("easel_step_seconds_count", {"model": MODEL}),
        ("easel_phase_seconds_count", {"model": MODEL, "phase": "uploading"}),
        ("easel_phase_seconds_count", {"model": MODEL, "phase": "waiting"}),
        ("easel_attempts_total", {"model": MODEL, "outcome": "dropped"}),
        ("easel_uploads_total", {"model": MODEL, "outcome": "stored"}),
        ("easel_upload_seconds_count", {"model": MODEL}),
        ("easel_upload_bytes_total", {"model": MODEL}),
        ("easel_previews_total", {"model": MODEL, "outcome": "replaced"}),
        ("easel_worker_claims_total", {"model": MODEL, "answer": "NOT_YET"}),
        ("easel_worker_claims_total", {"model": MODEL, "answer": "NO_ANSWER"}),
        ("easel_attempt_failures_total", {"model": MODEL, "reason": "MODEL_ERROR"}),
        ("easel_slots", {"model": MODEL}),
        ("easel_slots_busy", {"model": MODEL}),
        ("easel_bus_connected", {}),
    ):
        assert value(registry, name, **labels) == 0, name
    assert not any("UNSPECIFIED" in name for name in samples(registry))


def test_the_doings_of_the_engine(registry: CollectorRegistry, metrics: Metrics) -> None:
    engine = metrics.engine
    engine.batch(rows=8, paying_rows=16)
    engine.batch(rows=20, paying_rows=16)
    engine.work(Work.DENOISING, seconds=0.5)
    engine.work(Work.DENOISING, seconds=0.25)
    engine.step(seconds=0.03)
    engine.step(seconds=0.3)
    engine.lookup(hit=True)
    engine.lookup(hit=False)
    engine.lookup(hit=True)
    engine.out_of_memory()
    engine.memory(used_bytes=30, total_bytes=100)

    assert value(registry, "easel_batch_rows_sum", model=MODEL) == 28
    # More than pay are no more than full.
    assert value(registry, "easel_batch_occupancy_sum", model=MODEL) == 1.5
    assert value(registry, "easel_batch_occupancy_bucket", model=MODEL, le="0.5") == 1
    assert value(registry, "easel_step_seconds_sum", model=MODEL) == pytest.approx(0.33)
    assert value(registry, "easel_step_seconds_bucket", model=MODEL, le="0.05") == 1
    assert value(registry, "easel_device_busy_seconds_total", model=MODEL, work="denoising") == 0.75
    assert value(registry, "easel_device_busy_seconds_total", model=MODEL, work="decoding") == 0
    assert value(registry, "easel_embedding_cache_lookups_total", model=MODEL, outcome="hit") == 2
    assert value(registry, "easel_embedding_cache_lookups_total", model=MODEL, outcome="miss") == 1
    assert value(registry, "easel_out_of_memory_total", model=MODEL) == 1
    assert value(registry, "easel_device_memory_used_bytes", model=MODEL) == 30
    assert value(registry, "easel_device_memory_bytes", model=MODEL) == 100


def test_steps_are_counted_and_phases_timed(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.count_steps(1)
    metrics.count_steps(1)
    metrics.time_phases({"denoising": 0.33, "uploading": 0.1})

    assert value(registry, "easel_steps_total", model=MODEL) == 2
    assert value(registry, "easel_phase_seconds_sum", model=MODEL, phase="denoising") == pytest.approx(0.33)
    assert value(registry, "easel_phase_seconds_count", model=MODEL, phase="decoding") == 0


def test_attempts_count_by_outcome_and_failures_by_reason(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.count_attempt(SUCCEEDED)
    metrics.count_attempt(DROPPED)
    metrics.count_attempt(FAILED, reason=FailureReason.FAILURE_REASON_OUT_OF_MEMORY)
    metrics.count_attempt(FAILED, reason=FailureReason.FAILURE_REASON_UNSPECIFIED)

    assert value(registry, "easel_attempts_total", model=MODEL, outcome="succeeded") == 1
    assert value(registry, "easel_attempts_total", model=MODEL, outcome="failed") == 2
    assert value(registry, "easel_attempt_failures_total", model=MODEL, reason="OUT_OF_MEMORY") == 1
    assert value(registry, "easel_attempt_failures_total", model=MODEL, reason="UNSPECIFIED") == 1


@pytest.mark.parametrize(
    ("error", "outcome", "size_bytes"),
    [(None, "stored", 7), (OSError("full"), "failed", 0), (asyncio.CancelledError(), "dropped", 0)],
)
def test_an_upload_counts_once_by_its_outcome(
    registry: CollectorRegistry, metrics: Metrics, error: BaseException | None, outcome: str, size_bytes: int
) -> None:
    def store() -> None:
        with metrics.upload(size_bytes=7):
            if error is not None:
                raise error

    if error is None:
        store()
    else:
        with pytest.raises(type(error)):
            store()

    counted = [
        value(registry, "easel_uploads_total", model=MODEL, outcome=one) for one in ("stored", "failed", "dropped")
    ]
    assert sum(one or 0 for one in counted) == 1
    assert value(registry, "easel_uploads_total", model=MODEL, outcome=outcome) == 1
    assert value(registry, "easel_upload_bytes_total", model=MODEL) == size_bytes
    # However it ended: storage that does not answer is slow, too.
    assert value(registry, "easel_upload_seconds_count", model=MODEL) == 1


def test_claims_count_by_the_answer_or_that_there_was_none(registry: CollectorRegistry, metrics: Metrics) -> None:
    for answer in (ClaimAnswer.CLAIM_ANSWER_GRANTED, ClaimAnswer.CLAIM_ANSWER_HELD, None):
        metrics.count_claim(answer)

    assert [
        value(registry, "easel_worker_claims_total", model=MODEL, answer=answer)
        for answer in ("GRANTED", "HELD", "GONE", "NOT_YET", "NO_ANSWER")
    ] == [1, 1, 0, 0, 1]


def test_two_workers_in_one_process_do_not_meet(registry: CollectorRegistry, metrics: Metrics) -> None:
    other = CollectorRegistry()
    Metrics(other, model=MODEL).count_steps(1)

    assert value(registry, "easel_steps_total", model=MODEL) == 0
    assert value(other, "easel_steps_total", model=MODEL) == 1

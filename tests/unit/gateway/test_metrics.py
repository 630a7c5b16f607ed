"""What the gateway's instruments say."""

import math
from dataclasses import replace
from datetime import timedelta

from prometheus_client import CollectorRegistry

from easel.v1.model_pb2 import Model
from easel.worker.v1.claim_pb2 import ClaimAnswer
from gateway.metrics import Metrics
from gateway.record.generation import Change, State


def change(state: State, *, failure_reason: str | None = None) -> Change:
    return Change(generation_id="g", revision=2, state=state, model="tiny", failure_reason=failure_reason)


def test_a_change_counts_by_its_state(metrics: Metrics, registry: CollectorRegistry) -> None:
    for state in (State.RUNNING, State.RUNNING, State.SUCCEEDED):
        metrics.count_change(change(state))
    assert registry.get_sample_value("easel_transitions_total", {"model": "tiny", "state": "RUNNING"}) == 2
    assert registry.get_sample_value("easel_transitions_total", {"model": "tiny", "state": "SUCCEEDED"}) == 1


def test_it_is_measured_how_long_generations_take_to_their_end(metrics: Metrics, registry: CollectorRegistry) -> None:
    for state in (State.RUNNING, State.QUEUED, State.SUCCEEDED):
        metrics.count_change(replace(change(state), age=timedelta(seconds=7)))
    taken = {
        state: registry.get_sample_value("easel_generation_seconds_sum", {"model": "tiny", "state": state})
        for state in ("RUNNING", "QUEUED", "SUCCEEDED")
    }
    assert taken == {"RUNNING": None, "QUEUED": None, "SUCCEEDED": 7}


def test_a_failure_counts_by_its_reason_too(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.count_change(change(State.FAILED, failure_reason="FAILURE_REASON_DEAD_LETTER"))
    assert registry.get_sample_value("easel_transitions_total", {"model": "tiny", "state": "FAILED"}) == 1
    assert registry.get_sample_value("easel_failures_total", {"model": "tiny", "reason": "DEAD_LETTER"}) == 1


def test_answers_never_given_are_zeros(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.count_claim(ClaimAnswer.CLAIM_ANSWER_HELD)
    counts = {
        answer: registry.get_sample_value("easel_claims_total", {"answer": answer})
        for answer in ("GRANTED", "GONE", "HELD", "NOT_YET", "UNSPECIFIED")
    }
    assert counts == {"GRANTED": 0, "GONE": 0, "HELD": 1, "NOT_YET": 0, "UNSPECIFIED": None}


def test_live_workers_are_shown_for_every_known_model(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.show_models({"tiny": Model(live_workers=2), "idle": Model()})
    shown = [registry.get_sample_value("easel_live_workers", {"model": model}) for model in ("tiny", "idle")]
    assert shown == [2, 0]
    # So that the very first dead letter is an increase.
    assert registry.get_sample_value("easel_failures_total", {"model": "idle", "reason": "DEAD_LETTER"}) == 0
    assert registry.get_sample_value("easel_transitions_total", {"model": "idle", "state": "EXPIRED"}) == 0


def test_a_method_that_nobody_called_is_a_zero_for_each_status(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.show_method("s/Get")
    for code in ("OK", "INTERNAL", "UNAVAILABLE"):
        assert registry.get_sample_value("easel_rpcs_total", {"method": "s/Get", "code": code}) == 0
    assert registry.get_sample_value("easel_rpc_seconds_count", {"method": "s/Get"}) == 0


def test_lost_attempts_count_by_model(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.count_lost([change(State.QUEUED), change(State.FAILED)])
    assert registry.get_sample_value("easel_attempts_lost_total", {"model": "tiny"}) == 2


def test_a_record_that_cannot_be_asked_is_shown_as_unknown(metrics: Metrics, registry: CollectorRegistry) -> None:
    models = {"tiny": Model(live_workers=2)}
    metrics.show_models(models)
    metrics.show_backlog(models, [])
    metrics.forget_record()
    for name, labels in (
        ("easel_live_workers", {}),
        ("easel_backlog", {"state": "QUEUED"}),
        ("easel_backlog_oldest_seconds", {}),
    ):
        shown = registry.get_sample_value(name, {"model": "tiny", **labels})
        assert shown is not None
        assert math.isnan(shown), name
    metrics.show_models(models)
    assert registry.get_sample_value("easel_live_workers", {"model": "tiny"}) == 2

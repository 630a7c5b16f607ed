"""What a gateway measures; `docs/reference/metrics.md` is made of what stands here."""

import math
from collections.abc import Mapping, Sequence

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from easel.v1.generation_pb2 import FailureReason
from easel.v1.model_pb2 import Model
from easel.worker.v1.claim_pb2 import ClaimAnswer
from gateway.record.generation import Change, State
from gateway.record.queue import LiveCount

#: From a read out of the cache of PostgreSQL, over requests that wait for a lock, to watching a long generation.
RPC_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

#: From the same process, over a busy one, to a client that reads slowly.
WATCH_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)

#: From a free worker, who gets the hint within milliseconds, to a backlog of hours.
DISPATCH_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)

#: From a small picture on a free GPU to a backlog of hours.
GENERATION_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)

LIVE_STATES = (State.QUEUED, State.RUNNING)

#: What a result comes to.
SUCCEEDED, FAILED, LATE = "succeeded", "failed", "late"


class Metrics:
    """The instruments of one gateway.

    A counter counts what this replica did, so that the sum over all replicas is what happened. The gauges of the record
    (`easel_backlog…`, `easel_live_workers`) say the same on every replica, so that any one of them will do.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rpcs = Counter(
            "easel_rpcs",
            "Calls that ended, by gRPC status code; a stream counts when it ends.",
            ["method", "code"],
            registry=registry,
        )
        self.rpc_seconds = Histogram(
            "easel_rpc_seconds",
            "How long calls took, whatever their end; a stream as long as it was open.",
            ["method"],
            buckets=RPC_BUCKETS_SECONDS,
            registry=registry,
        )
        self.watchers = Gauge(
            "easel_watchers",
            "Open streams of WatchGeneration and Generate.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.watch_lag_seconds = Histogram(
            "easel_watch_lag_seconds",
            "From hearing of a change of state until a watcher was told; a slow reader's slowness is in it.",
            buckets=WATCH_BUCKETS_SECONDS,
            registry=registry,
        )
        self.accepted = Counter(
            "easel_accepted", "Generations made; a request sent again makes none.", ["model"], registry=registry
        )
        self.backlog = Gauge(
            "easel_backlog",
            "Generations in the record that are not final; the same on every replica.",
            ["model", "state"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.backlog_oldest_seconds = Gauge(
            "easel_backlog_oldest_seconds",
            "Age of the oldest QUEUED generation, 0 without any; the same on every replica.",
            ["model"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.dispatch_age_seconds = Histogram(
            "easel_dispatch_age_seconds",
            "Age of a generation when its hint goes to the workers, each time that it does.",
            ["model"],
            buckets=DISPATCH_BUCKETS_SECONDS,
            registry=registry,
        )
        self.claims = Counter(
            "easel_claims", "Claims of workers, by the answer they got.", ["answer"], registry=registry
        )
        self.transitions = Counter(
            "easel_transitions",
            "Changes of state, by the new state, counted by the replica that committed them; "
            "QUEUED are returns to the queue.",
            ["model", "state"],
            registry=registry,
        )
        self.generation_seconds = Histogram(
            "easel_generation_seconds",
            "From acceptance to the final state.",
            ["model", "state"],
            buckets=GENERATION_BUCKETS_SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "easel_failures", "Generations that became FAILED, by reason.", ["model", "reason"], registry=registry
        )
        self.results = Counter(
            "easel_results",
            "Results of workers, by outcome; a late one changed nothing.",
            ["outcome"],
            registry=registry,
        )
        self.recalled = Counter(
            "easel_recalled",
            "Results committed once more, since the record had forgotten them: it was restored from a backup.",
            registry=registry,
        )
        self.attempts_lost = Counter(
            "easel_attempts_lost",
            "Attempts whose lease ran out, their worker lost or hung.",
            ["model"],
            registry=registry,
        )
        self.live_workers = Gauge(
            "easel_live_workers",
            "Workers that renewed within a lease; the same on every replica.",
            ["model"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.database_unavailable = Counter(
            "easel_database_unavailable", "Statements that PostgreSQL did not answer.", registry=registry
        )
        self.bus_connected = Gauge(
            "easel_bus_connected",
            "1 while connected to NATS, else 0.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.unreadable_messages = Counter(
            "easel_unreadable_messages", "Messages of workers that made no sense and were set aside.", registry=registry
        )
        self._shown_models: set[str] = set()
        # What has not happened yet is a zero, and not missing: a rate over it is right from the first one on.
        for answer in ClaimAnswer.values():
            if answer != ClaimAnswer.CLAIM_ANSWER_UNSPECIFIED:
                self.claims.labels(answer=name_of(answer))
        for outcome in (SUCCEEDED, FAILED, LATE):
            self.results.labels(outcome=outcome)

    def show_method(self, method: str) -> None:
        """Show a method that nobody has called yet as zeros."""
        self.rpc_seconds.labels(method=method)
        for code in grpc.StatusCode:
            self.rpcs.labels(method=method, code=code.name)

    def count_claim(self, answer: "ClaimAnswer.ValueType") -> None:
        """Count a claim by its answer."""
        self.claims.labels(answer=name_of(answer)).inc()

    def count_change(self, change: Change) -> None:
        """Count a change of state, and the reason if it is a failure."""
        self.transitions.labels(model=change.model, state=change.state).inc()
        if change.state.is_final:
            seconds = change.age.total_seconds()
            self.generation_seconds.labels(model=change.model, state=change.state).observe(seconds)
        if change.failure_reason is not None:
            self.failures.labels(model=change.model, reason=_name_of_reason(change.failure_reason)).inc()

    def count_lost(self, changes: Sequence[Change]) -> None:
        """Count attempts that were lost, by the changes that came of it."""
        for change in changes:
            self.attempts_lost.labels(model=change.model).inc()

    def show_backlog(self, models: Mapping[str, object], counts: Sequence[LiveCount]) -> None:
        """Show how many generations of each known model are waiting and running."""
        counted = {(one.model, one.state): one for one in counts}
        for model in models:
            for state in LIVE_STATES:
                found = counted.get((model, state))
                self.backlog.labels(model=model, state=state).set(found.count if found else 0)
            queued = counted.get((model, State.QUEUED))
            self.backlog_oldest_seconds.labels(model=model).set(queued.oldest.total_seconds() if queued else 0)

    def show_models(self, models: Mapping[str, Model]) -> None:
        """Show how many workers serve each known model."""
        for name, model in models.items():
            self._shown_models.add(name)
            self._show_zeros(name)
            self.live_workers.labels(model=name).set(model.live_workers)

    def forget_record(self) -> None:
        """Show nothing of what the record said, since it cannot be asked: what other replicas say may be newer."""
        for model in self._shown_models:
            for state in LIVE_STATES:
                self.backlog.labels(model=model, state=state).set(math.nan)
            self.backlog_oldest_seconds.labels(model=model).set(math.nan)
            self.live_workers.labels(model=model).set(math.nan)

    def _show_zeros(self, model: str) -> None:
        """Show what has not happened to a model's generations yet as zeros."""
        self.accepted.labels(model=model)
        self.attempts_lost.labels(model=model)
        self.dispatch_age_seconds.labels(model=model)
        for state in State:
            self.transitions.labels(model=model, state=state)
            if state.is_final:
                self.generation_seconds.labels(model=model, state=state)
        for reason in FailureReason.values():
            if reason != FailureReason.FAILURE_REASON_UNSPECIFIED:
                self.failures.labels(model=model, reason=_name_of_reason(FailureReason.Name(reason)))


def _name_of_reason(reason: str) -> str:
    return reason.removeprefix("FAILURE_REASON_")


def name_of(answer: "ClaimAnswer.ValueType") -> str:
    """Name an answer as its label does: `GRANTED`."""
    return ClaimAnswer.Name(answer).removeprefix("CLAIM_ANSWER_")

"""What a worker measures; `docs/reference/metrics.md` is made of what stands here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from easel.v1.generation_pb2 import FailureReason
from easel.worker.v1.claim_pb2 import ClaimAnswer
from inference.engine.engine import Phase
from inference.engine.observer import Work

#: From a small model on a GPU to a large one without.
STEP_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: From a cached prompt to many large pictures of many steps.
PHASE_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
#: From a server next door to one that restarts meanwhile.
UPLOAD_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

#: A row is a picture without guidance, and half of one with it.
BATCH_BUCKETS_ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
OCCUPANCY_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

#: The phase that the engine does not know.
UPLOADING = "uploading"

#: How an attempt ends for its worker; a dropped one is somebody else's by now, or nobody's.
SUCCEEDED, FAILED, DROPPED = "succeeded", "failed", "dropped"
#: What becomes of a file; a dropped one belonged to a dropped attempt.
STORED = "stored"
#: What becomes of a preview: one that waited too long is replaced by a newer one, or dropped with its attempt.
SENT, REPLACED = "sent", "replaced"

NO_ANSWER, UNKNOWN = "NO_ANSWER", "UNKNOWN"
HIT, MISS = "hit", "miss"


class EngineMetrics:
    """What the engine tells of its doings."""

    def __init__(self, registry: CollectorRegistry, *, model: str) -> None:
        self._model = model
        self._batch_rows = Histogram(
            "easel_batch_rows",
            "Rows in each evaluation of the denoiser; a picture has two with guidance.",
            ["model"],
            buckets=BATCH_BUCKETS_ROWS,
            registry=registry,
        )
        self._batch_occupancy = Histogram(
            "easel_batch_occupancy",
            "Rows in each evaluation, as a share of as many as pay on this device.",
            ["model"],
            buckets=OCCUPANCY_BUCKETS,
            registry=registry,
        )
        self._step_seconds = Histogram(
            "easel_step_seconds",
            "How long evaluations of the denoiser took, each a step of all that are in it.",
            ["model"],
            buckets=STEP_BUCKETS_SECONDS,
            registry=registry,
        )
        self._busy_seconds = Counter(
            "easel_device_busy_seconds",
            "How long the device was busy, previews apart; the rate of all of it is its utilisation.",
            ["model", "work"],
            registry=registry,
        )
        self._lookups = Counter(
            "easel_embedding_cache_lookups",
            "Prompts looked up among those encoded before.",
            ["model", "outcome"],
            registry=registry,
        )
        self._out_of_memory = Counter(
            "easel_out_of_memory",
            "Batches that memory did not suffice for; they are taken apart, and drawn in parts.",
            ["model"],
            registry=registry,
        )
        self._memory_used_bytes = Gauge(
            "easel_device_memory_used_bytes",
            "Memory of the device that is taken, by whomever; of a CPU, what this process takes.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._memory_bytes = Gauge(
            "easel_device_memory_bytes",
            "Memory that the device has.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._show_zeros()

    def batch(self, *, rows: int, paying_rows: int) -> None:
        """Take note of an evaluation with so many rows, where so many would pay."""
        self._batch_rows.labels(model=self._model).observe(rows)
        self._batch_occupancy.labels(model=self._model).observe(min(1.0, rows / paying_rows))

    def step(self, *, seconds: float) -> None:
        """Take note of how long an evaluation took, which is a step of all that are in it."""
        self._step_seconds.labels(model=self._model).observe(seconds)

    def work(self, work: Work, *, seconds: float) -> None:
        """Take note of how long the device was busy."""
        self._busy_seconds.labels(model=self._model, work=work.value).inc(seconds)

    def lookup(self, *, hit: bool) -> None:
        """Take note of whether what a prompt became was known already."""
        self._lookups.labels(model=self._model, outcome=HIT if hit else MISS).inc()

    def out_of_memory(self) -> None:
        """Take note of memory that did not suffice."""
        self._out_of_memory.labels(model=self._model).inc()

    def memory(self, *, used_bytes: int, total_bytes: int) -> None:
        """Take note of how much of the device's memory is taken."""
        self._memory_used_bytes.labels(model=self._model).set(used_bytes)
        self._memory_bytes.labels(model=self._model).set(total_bytes)

    def _show_zeros(self) -> None:
        for of_the_model in (
            self._batch_rows,
            self._batch_occupancy,
            self._step_seconds,
            self._out_of_memory,
            self._memory_used_bytes,
            self._memory_bytes,
        ):
            of_the_model.labels(model=self._model)
        for work in Work:
            self._busy_seconds.labels(model=self._model, work=work.value)
        for outcome in (HIT, MISS):
            self._lookups.labels(model=self._model, outcome=outcome)


class Metrics:
    """The instruments of one worker, which serves one model.

    They say what this worker did and saw. What became of generations is for the gateways to say, under other names: an
    attempt may fail, or end here and be superseded, without its generation following it.
    """

    def __init__(self, registry: CollectorRegistry, *, model: str) -> None:
        self._model = model
        self.engine = EngineMetrics(registry, model=model)
        self._steps = Counter("easel_steps", "Denoising steps done.", ["model"], registry=registry)
        self._phase_seconds = Histogram(
            "easel_phase_seconds",
            "How long the phases of an attempt that succeeded took, each for all of its pictures.",
            ["model", "phase"],
            buckets=PHASE_BUCKETS_SECONDS,
            registry=registry,
        )
        self._attempts = Counter(
            "easel_attempts",
            "Attempts that ended on this worker; a dropped one was cancelled, lost or handed back.",
            ["model", "outcome"],
            registry=registry,
        )
        self._attempt_failures = Counter(
            "easel_attempt_failures", "Attempts that failed, by reason.", ["model", "reason"], registry=registry
        )
        self._uploads = Counter(
            "easel_uploads", "Files on their way to storage.", ["model", "outcome"], registry=registry
        )
        self._upload_seconds = Histogram(
            "easel_upload_seconds",
            "How long it took to store a file or to give it up, repeated tries and all.",
            ["model"],
            buckets=UPLOAD_BUCKETS_SECONDS,
            registry=registry,
        )
        self._upload_bytes = Counter("easel_upload_bytes", "Bytes of the files stored.", ["model"], registry=registry)
        self._previews = Counter(
            "easel_previews",
            "Previews; one that had to wait was replaced by a newer one, or dropped with its attempt.",
            ["model", "outcome"],
            registry=registry,
        )
        self._claims = Counter(
            "easel_worker_claims",
            "Claims that this worker asked for, by the answer it got; one without is asked for again.",
            ["model", "answer"],
            registry=registry,
        )
        self.slots = Gauge(
            "easel_slots",
            "Requests that this worker can hold for drawing.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.slots_busy = Gauge(
            "easel_slots_busy",
            "Requests that it holds for drawing now.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.bus_connected = Gauge(
            "easel_bus_connected",
            "1 while connected to NATS, else 0.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._show_zeros()

    def count_steps(self, steps: int) -> None:
        """Count steps that were done."""
        self._steps.labels(model=self._model).inc(steps)

    def time_phases(self, seconds: Mapping[str, float]) -> None:
        """Take in how long phases took, by their names."""
        for phase, value in seconds.items():
            self._phase_seconds.labels(model=self._model, phase=phase).observe(value)

    def count_attempt(self, outcome: str, *, reason: "FailureReason.ValueType | None" = None) -> None:
        """Count the end of an attempt, and the reason if it failed."""
        self._attempts.labels(model=self._model, outcome=outcome).inc()
        if reason is not None:
            self._attempt_failures.labels(model=self._model, reason=_name_of_reason(reason)).inc()

    @contextmanager
    def upload(self, *, size_bytes: int) -> Iterator[None]:
        """Measure how a file of so many bytes is stored, and whether it is."""
        started, outcome = monotonic(), DROPPED
        try:
            yield
            outcome = STORED
            self._upload_bytes.labels(model=self._model).inc(size_bytes)
        except Exception:
            outcome = FAILED
            raise
        finally:
            self._upload_seconds.labels(model=self._model).observe(monotonic() - started)
            self._uploads.labels(model=self._model, outcome=outcome).inc()

    def count_preview(self, outcome: str) -> None:
        """Count what became of a preview."""
        self._previews.labels(model=self._model, outcome=outcome).inc()

    def count_claim(self, answer: "ClaimAnswer.ValueType | None") -> None:
        """Count a claim by its answer, None being none."""
        name = NO_ANSWER if answer is None else name_of(answer)
        self._claims.labels(model=self._model, answer=name).inc()

    def _show_zeros(self) -> None:
        """Show what has not happened yet as a zero, and not as missing: a rate is right from the first one on."""
        self._steps.labels(model=self._model)
        for phase in (*(phase.value for phase in Phase), UPLOADING):
            self._phase_seconds.labels(model=self._model, phase=phase)
        self.slots.labels(model=self._model)
        self.slots_busy.labels(model=self._model)
        for outcome in (SUCCEEDED, FAILED, DROPPED):
            self._attempts.labels(model=self._model, outcome=outcome)
        for reason in FailureReason.values():
            if reason != FailureReason.FAILURE_REASON_UNSPECIFIED:
                self._attempt_failures.labels(model=self._model, reason=_name_of_reason(reason))
        self._upload_seconds.labels(model=self._model)
        self._upload_bytes.labels(model=self._model)
        for outcome in (STORED, FAILED, DROPPED):
            self._uploads.labels(model=self._model, outcome=outcome)
        for outcome in (SENT, REPLACED, DROPPED, FAILED):
            self._previews.labels(model=self._model, outcome=outcome)
        known = [name_of(answer) for answer in ClaimAnswer.values() if answer]
        for answer_name in (*known, NO_ANSWER, UNKNOWN):
            self._claims.labels(model=self._model, answer=answer_name)


def _name_of_reason(reason: "FailureReason.ValueType") -> str:
    return FailureReason.Name(reason).removeprefix("FAILURE_REASON_")


def name_of(answer: "ClaimAnswer.ValueType") -> str:
    """Name an answer as its label does: `GRANTED`; a newer gateway may have answers that are not known here."""
    found = ClaimAnswer.DESCRIPTOR.values_by_number.get(answer)
    return UNKNOWN if found is None else found.name.removeprefix("CLAIM_ANSWER_")

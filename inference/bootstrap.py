"""The one place where a worker's parts are made, joined, started and stopped."""

import asyncio
import functools
import signal
import socket
import uuid
from collections.abc import Coroutine
from typing import Any

import stamina.instrumentation
from loguru import logger
from minio import Minio

from easel import objects
from easel.bus import Bus, BusUnavailable
from easel.health import Sighting
from easel.settings import Misconfigured
from easel.telemetry import Telemetry
from easel.v1.model_pb2 import Model
from easel.worker.v1.task_pb2 import AttemptRef
from inference import model_spec, models
from inference.attempt import Attempt, Workshop
from inference.attempts import Attempts
from inference.cancellation import Cancellation
from inference.claims import Claims
from inference.engine.adapter import MEMORY_ERRORS
from inference.engine.engine import Phase
from inference.engine.loops import loop_for
from inference.engine.threaded_engine import ThreadedEngine
from inference.gateways import Gateways
from inference.hints import Hints
from inference.metrics import Metrics
from inference.models import ModelSource
from inference.pictures import Encoder
from inference.renewals import Renewals
from inference.results import Results
from inference.settings import WorkerSettings
from inference.store import MinioObjectStore
from inference.tasks import cancel_all

RELEASE_TRIES = 3
ENGINE_CHECK_SECONDS = 1.0
#: After so many periods without an answer to a renewal a worker is not ready: it can be given no work.
MISSED_RENEWALS = 6


class EngineDied(Exception):
    """The device is wedged or lost: only a new process can draw again."""


class WorkerBroken(Exception):
    """A defect, already logged, ended a part of the worker; what it held was finished or handed back."""


async def run(settings: WorkerSettings, *, model: ModelSource | None = None) -> None:
    """Run a worker until it is told to stop; then stop it in order.

    Args:
        settings: Its settings.
        model: Where its model comes from; what the settings name when None.

    Raises:
        Misconfigured: a setting is wrong.
        ModelUnavailable: the model cannot be used.
        EngineDied: what could be saved was saved, and the process should end now.
        WorkerBroken: the same, because of a defect.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # the store logs its retries itself
    stop = asyncio.Event()
    _stop_on_signals(stop)
    worker = Worker(settings, model=model or models.source(settings))
    logger.info("starting with the model {}", settings.model, action="start")
    try:
        if await _unless_stopped(worker.start(), stop):
            await worker.work(stop)
    finally:
        await worker.close()


class Worker:
    """The parts of a worker.

    It starts from the outside in: what it needs (device, NATS, bucket), then the renewals that make it known, then the
    claims that give it work. It stops in reverse:

    1. Claims stop, so that nothing new comes in; what was pulled and not claimed goes back to the queue.
    2. What is held is finished within the grace; renewals and cancel notices go on, since it is still ours.
    3. What is left is stopped, then handed back: in this order, so that nothing is drawn that another worker may draw
       already. Only after that the renewals end, or a lease might run out and cost an attempt.
    4. The engine ends after the step in hand, and then the connection closes.
    """

    def __init__(self, settings: WorkerSettings, *, model: ModelSource) -> None:
        self._settings = settings
        self._card = model.card
        self._name = _name_of(settings, self._card)
        self._telemetry = Telemetry(service="worker")
        self._bus = Bus()
        self._encoder = Encoder()
        self._store = MinioObjectStore(
            _connect_to_storage(settings),
            bucket=settings.s3_bucket,
            timeout_seconds=settings.upload_timeout_seconds,
        )
        most_rows = settings.fixed_rows or settings.max_rows
        self._metrics = metrics = Metrics(self._telemetry.registry, model=self._name)
        self._engine = ThreadedEngine(
            lambda pulse: loop_for(model.load(metrics.engine), pulse, most_rows=most_rows, observer=metrics.engine)
        )
        self._gateways = Gateways(self._bus, worker_id=f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}")
        self._attempts = Attempts(slots=self._count_slots, hand_back=self._hand_back)
        self._telemetry.sample(metrics.slots.labels(model=self._name), self._count_slots)
        self._telemetry.sample(metrics.slots_busy.labels(model=self._name), lambda: self._attempts.busy_slots)
        self._telemetry.sample(metrics.bus_connected, lambda: float(self._bus.connected_seconds > 0))
        self._telling: asyncio.Task[None] | None = None
        self._model_seen = Sighting()
        self._bucket_seen = Sighting()
        # The first answer makes this worker known; gateways make its queue when they hear of it.
        self._gateway_seen = Sighting(patience_seconds=MISSED_RENEWALS * settings.renew_seconds)
        self._hints = Hints(self._bus, model=self._name)
        health = self._telemetry.health
        health.require_to_live("device", self._check_device)
        health.require_to_be_ready("model", self._model_seen)
        health.require_to_be_ready("device", self._check_device)
        health.require_to_be_ready("NATS", lambda: "" if self._bus.connected_seconds > 0 else "not connected")
        health.require_to_be_ready("bucket", self._bucket_seen)
        health.require_to_be_ready("gateway", self._gateway_seen)
        health.require_to_be_ready("queue", lambda: "" if self._hints.is_bound else "not there")
        self._model = Model()

    async def start(self) -> None:
        """Load the model, connect, and make sure of the bucket, all at the same time: each may take long.

        Raises:
            Misconfigured: the address for the metrics is taken or not ours.
            ModelUnavailable: the model cannot be used.
        """
        self._telemetry.listen(self._settings.metrics_listen)
        self._telling = asyncio.create_task(self._telemetry.run())
        starting = [
            asyncio.ensure_future(self._load()),
            asyncio.ensure_future(
                self._bus.connect(
                    self._settings.nats_url.get_secret_value(),
                    name=f"easel-worker {self._name}",
                    ca_file=self._settings.nats_ca_file,
                )
            ),
            asyncio.ensure_future(self._ensure_bucket()),
        ]
        try:
            await asyncio.gather(*starting)
        finally:
            for one in starting:
                one.cancel()
            await asyncio.wait(starting)

    async def work(self, stop: asyncio.Event) -> None:
        """Claim and draw until told to stop.

        Raises:
            EngineDied: the device answers no more.
            WorkerBroken: one of its parts did not survive a defect.
        """
        renewals = Renewals(
            self._gateways,
            self._attempts,
            self._engine,
            model=self._model,
            period_seconds=self._settings.renew_seconds,
            on_answer=self._gateway_seen.note,
        )
        self._bus.on_connect(renewals.hasten)

        def on_slots_changed() -> None:
            self._attempts.notice_room()
            renewals.hasten_if_it_matters()

        self._engine.on_slots_changed = on_slots_changed
        await Cancellation(self._bus, self._attempts).listen()
        claims = Claims(
            self._hints,
            self._gateways,
            self._attempts,
            on_granted=self._on_granted(),
            metrics=self._metrics,
        )
        parts = [
            asyncio.create_task(renewals.run(), name="renewals"),
            asyncio.create_task(self._watch_engine(stop), name="engine watch"),
            claiming := asyncio.create_task(claims.run(stop), name="claims"),
        ]
        for part in parts:
            part.add_done_callback(functools.partial(_stop_on_defect, stop=stop))
        logger.info("serving {} as {}", self._name, self._gateways.worker_id, action="ready")
        try:
            await asyncio.wait([claiming])  # does not raise its defect, which was logged by then
            await self._drain()
        finally:
            await cancel_all(parts)
        if not self._engine.alive:
            raise EngineDied
        if any(_defect_of(part) for part in parts):
            raise WorkerBroken

    async def close(self) -> None:
        """Close what `start` opened, also when it did not get far."""
        await self._engine.stop()
        self._encoder.close()
        self._store.close()
        await self._bus.close()
        if self._telling is not None:
            self._telling.cancel()
        await asyncio.to_thread(self._telemetry.close)

    async def _load(self) -> None:
        try:
            traits = await self._engine.start()
        except MEMORY_ERRORS as error:
            raise models.ModelUnavailable(
                f"{self._settings.model}: the device has too little memory for a single picture; "
                "EASEL_OFFLOAD=model or EASEL_OFFLOAD=layers needs less"
            ) from error
        self._model_seen.note()
        try:
            self._model = model_spec.describe(traits, self._card, name=self._name)
        except ValueError as error:
            raise models.ModelUnavailable(f"{self._settings.model}: {error}") from error

    async def _ensure_bucket(self) -> None:
        await self._store.ensure_bucket()
        self._bucket_seen.note()

    def _check_device(self) -> str:
        return "answers no more" if not self._model_seen() and not self._engine.alive else ""

    def _count_slots(self) -> int:
        return min(self._engine.slots, self._settings.slots or self._engine.slots)

    def _on_granted(self) -> Any:
        workshop = Workshop(
            worker_id=self._gateways.worker_id,
            bus=self._bus,
            engine=self._engine,
            encoder=self._encoder,
            store=self._store,
            results=Results(self._bus),
            metrics=self._metrics,
        )
        return lambda task: self._attempts.hold(Attempt(task, workshop))

    async def _watch_engine(self, stop: asyncio.Event) -> None:
        while self._engine.alive:  # noqa: ASYNC110  # it dies by a moment that passes, which nobody announces
            await asyncio.sleep(ENGINE_CHECK_SECONDS)
        logger.critical("the device answers no more; this process has to end", action="engine_died")
        stop.set()

    async def _drain(self) -> None:
        self._telemetry.health.stop()
        if self._attempts and self._engine.alive:
            logger.info("finishing what is held", action="drain", held=len(self._attempts))
            await self._attempts.drain(within_seconds=self._settings.drain_grace_seconds)
        await self._release(await self._attempts.give_up(keep_back=self._broke_the_device), leaving=True)

    def _broke_the_device(self, attempt: Attempt) -> bool:
        """Whether an attempt may be the cause of a dead engine: its lease shall run out, and the loss count."""
        return not self._engine.alive and attempt.engine_phase not in (None, Phase.WAITING)

    async def _hand_back(self, attempt: AttemptRef) -> None:
        await self._release([attempt], leaving=False)

    async def _release(self, attempts: list[AttemptRef], *, leaving: bool) -> None:
        """Hand attempts back; what no gateway takes is lost when its lease runs out."""
        for _ in range(RELEASE_TRIES):
            try:
                await self._gateways.release(attempts, leaving=leaving)
            except BusUnavailable as error:
                logger.warning("could not hand back yet: {}", error, action="release")
            else:
                logger.info("handed back {} attempts", len(attempts), action="release")
                return


def _name_of(settings: WorkerSettings, card: models.Card) -> str:
    try:
        return model_spec.name_of(settings.model, card, override=settings.model_name)
    except ValueError as error:
        raise Misconfigured("model_name", str(error)) from error


def _connect_to_storage(settings: WorkerSettings) -> Minio:
    try:
        return objects.connect(
            settings,
            endpoint=settings.s3_endpoint,
            # A server that hangs must not take longer for a single try than there is for all of them.
            read_timeout_seconds=min(objects.READ_TIMEOUT_SECONDS, settings.upload_timeout_seconds),
        )
    except ValueError as error:
        raise Misconfigured("s3_endpoint", str(error)) from error


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        logger.info("stopping on {}", number.name, action="stop")
        stop.set()
        for each in (signal.SIGTERM, signal.SIGINT):
            # A second signal ends the process at once, as it would without a handler.
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each)


def _stop_on_defect(task: "asyncio.Task[None]", *, stop: asyncio.Event) -> None:
    """Stop the worker rather than go on without one of its parts."""
    if error := _defect_of(task):
        logger.opt(exception=error).critical("a defect ended the {}", task.get_name(), action="defect")
        stop.set()


def _defect_of(task: "asyncio.Task[None]") -> BaseException | None:
    return None if task.cancelled() else task.exception()


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Do something, or drop it when told to stop; tell whether it was done."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working])
        return False
    await working
    return True

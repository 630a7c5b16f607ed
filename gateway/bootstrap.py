"""Where the gateway's objects are made and tied together, and the order in which they start and stop."""

import asyncio
import contextlib
import gc
import signal
from datetime import timedelta

from loguru import logger

from easel import objects
from easel.bus import Bus, BusUnavailable
from easel.health import Sighting
from easel.settings import Misconfigured
from easel.telemetry import Telemetry
from gateway.accept import Acceptance, Backlog
from gateway.announcements import Announcements
from gateway.api.generation_service import GenerationService
from gateway.api.model_service import ModelService
from gateway.api.server import Server
from gateway.bucket import Bucket
from gateway.catalogue import Catalogue
from gateway.claims import Claims, WorkerRequests
from gateway.dispatch import Dispatcher
from gateway.errors import DatabaseUnavailable
from gateway.group_commit import GroupCommit
from gateway.hub import Hub
from gateway.images import ImageSigner
from gateway.loops import Loop
from gateway.metrics import Metrics
from gateway.progress import FLUSH_SECONDS, ProgressWriter
from gateway.projection import Projection
from gateway.recall import Recall
from gateway.record import schema
from gateway.record.adoption import Adoption
from gateway.record.attempts import Attempts, RetryPolicy
from gateway.record.database import Database
from gateway.record.generations import Generations
from gateway.record.listing import Listing
from gateway.record.models import Models
from gateway.record.queue import Queue
from gateway.record.removal import Removal
from gateway.results import Results
from gateway.retention import Retention
from gateway.settings import GatewaySettings
from gateway.sweep import Sweep
from gateway.topology import Topology
from gateway.turns import Turns
from gateway.watch import Watching

SCHEMA_POLL_SECONDS = 1.0
CATALOGUE_SECONDS = 1.0
BACKLOG_SECONDS = 0.5
HEALTH_SECONDS = 0.25
#: After so many timeouts in a row without its database a gateway has balancers turn away.
DATABASE_PATIENCE_TIMEOUTS = 3
#: Each request accepted is a nudge to dispatch: under load many share one look at the queue.
DISPATCH_PAUSE_SECONDS = 0.02
#: How many lists are read at a time, and how many of one owner. Some filters are answered only by a look at all that an
#: owner has, which keeps a connection and a core of PostgreSQL busy, and a long page this process as well.
LISTS = 4
LISTS_PER_OWNER = 2
#: How long balancers get to notice that we go.
SHUTDOWN_NOTICE_SECONDS = 0.1
#: How long the loops get to end their steps in hand: a pull for results takes a second and must not be cancelled.
LOOPS_GRACE_SECONDS = 3.0


async def serve(settings: GatewaySettings) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    # In here, since grpc.aio binds a server to the loop that runs when it is made.
    await Gateway(settings).run()


class Gateway:
    """All parts of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._telemetry = Telemetry(service="gateway")
        metrics = Metrics(self._telemetry.registry)

        def connect(pool_size: int) -> Database:
            return Database(
                settings.database_url.get_secret_value(),
                pool_size=pool_size,
                timeout_seconds=settings.database_timeout_seconds,
                on_unavailable=metrics.database_unavailable.inc,
            )

        # Two, so that however many calls there are, and whatever they wait for, no lease runs out over them.
        self._database_for_calls = connect(settings.database_pool_size)
        self._database = connect(settings.database_work_pool_size)
        self._bus = Bus()
        self._telemetry.sample(metrics.bus_connected, lambda: float(self._bus.connected_seconds > 0))
        health = self._telemetry.health
        self._metrics = metrics
        self._database_seen = database_seen = Sighting(
            patience_seconds=DATABASE_PATIENCE_TIMEOUTS * settings.database_timeout_seconds
        )
        health.require_to_be_ready("database", database_seen)
        # Once they were there, NATS is not needed to accept, to answer and to cancel.
        self._streams_seen = Sighting()
        health.require_to_be_ready("streams", self._streams_seen)
        generations = Generations(self._database_for_calls, retention=settings.retention)
        queue = Queue(self._database)
        attempts = Attempts(self._database, retention=settings.retention)
        models = Models(self._database)
        policy = RetryPolicy(max_lost_attempts=settings.max_lost_attempts, backoff=settings.retry_backoff)
        # A worker renews several times in a lease: one that was not heard of for a whole one is not alive.
        catalogue = Catalogue(Models(self._database_for_calls), liveness=settings.lease)

        self._dispatcher = Dispatcher(queue, self._bus, liveness=settings.lease, metrics=metrics)
        self._dispatching = Loop(
            "dispatch",
            self._dispatcher.dispatch,
            interval_seconds=settings.dispatch_seconds,
            pause_seconds=DISPATCH_PAUSE_SECONDS,
        )
        announcements = Announcements(self._bus, nudge_dispatch=self._dispatching.nudge, metrics=metrics)
        self._topology = Topology(
            self._bus,
            catalogue,
            replicas=settings.stream_replicas,
            # A statement and the wait for a connection may each take so long.
            result_ack_wait_seconds=2 * settings.database_timeout_seconds,
        )
        topology = Loop("topology", self._ensure_topology, interval_seconds=settings.topology_seconds)
        self._bus.on_connect(topology.nudge)
        self._hub = Hub(self._bus, Generations(self._database))
        self._progress = ProgressWriter(self._bus, attempts)
        self._bucket = bucket = Bucket(
            objects.connect(settings, endpoint=settings.s3_endpoint), name=settings.s3_bucket
        )
        results = Results(
            attempts,
            Adoption(self._database, retention=settings.retention),
            bucket,
            announcements=announcements,
            policy=policy,
        )
        recall = Recall(self._bus, results, metrics=metrics)
        claims = Claims(
            attempts,
            models,
            recall,
            announcements=announcements,
            lease=settings.lease,
            on_new_model=topology.nudge,
            metrics=metrics,
        )
        self._worker_requests = WorkerRequests(self._bus, claims, metrics=metrics)
        projection = Projection(self._bus, self._database, results, metrics=metrics)
        sweep = Sweep(
            self._bus,
            attempts,
            queue,
            models,
            recall=recall,
            announcements=announcements,
            lease=settings.lease,
            policy=policy,
            metrics=metrics,
        )
        backlog = Backlog(queue, limit=settings.max_backlog, metrics=metrics)

        async def count_backlog() -> None:
            await backlog.count(catalogue.models)

        async def refresh_catalogue() -> None:
            # Over the connections that calls take.
            await catalogue.refresh()
            database_seen.note()
            metrics.show_models(catalogue.models)

        retention = Retention(
            Removal(self._database),
            bucket,
            retention=settings.retention,
            backup_age=settings.backup_age,
        )
        removing = Loop("removal", retention.remove_due, interval_seconds=settings.removal_seconds)

        self._catalogue = catalogue
        self._looping = False
        self._loops = (
            topology,
            self._dispatching,
            Loop("catalogue", refresh_catalogue, interval_seconds=CATALOGUE_SECONDS),
            Loop("backlog", count_backlog, interval_seconds=BACKLOG_SECONDS),
            Loop("projection", projection.project, interval_seconds=0),
            Loop("progress", self._progress.flush, interval_seconds=FLUSH_SECONDS),
            Loop("sweep", sweep.sweep, interval_seconds=settings.sweep_seconds),
            Loop("re-check", self._hub.recheck, interval_seconds=settings.recheck_seconds),
            Loop("health", self._tell_health, interval_seconds=HEALTH_SECONDS),
            removing,
        )

        url_lifetime = timedelta(seconds=settings.url_lifetime_seconds)
        signer = ImageSigner(
            objects.connect(settings, endpoint=settings.s3_public_endpoint or settings.s3_endpoint),
            bucket=settings.s3_bucket,
            lifetime=url_lifetime,
        )
        self._server = Server(
            GenerationService(
                acceptance=Acceptance(
                    generations,
                    GroupCommit(generations, timeout_seconds=settings.database_timeout_seconds),
                    backlog,
                    nudge_dispatch=self._dispatching.nudge,
                    metrics=metrics,
                ),
                generations=generations,
                queue=Queue(self._database_for_calls),
                watching=Watching(generations, self._hub, self._bus, metrics=metrics),
                catalogue=catalogue,
                listing=Listing(self._database_for_calls),
                removal=Removal(self._database_for_calls),
                nudge_removal=removing.nudge,
                announcements=announcements,
                signer=signer,
                url_lifetime=url_lifetime,
            ),
            ModelService(catalogue),
            listen=settings.listen,
            with_reflection=settings.reflection,
            turns={
                "ListGenerations": Turns(
                    places=LISTS, places_per_owner=LISTS_PER_OWNER, timeout_seconds=settings.database_timeout_seconds
                )
            },
            write_timeout_seconds=settings.write_timeout_seconds,
            metrics=metrics,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            Misconfigured: an address is taken or not ours.
        """
        stop = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
        self._telemetry.listen(self._settings.metrics_listen)
        telling = asyncio.create_task(self._telemetry.run())
        try:
            port = await self._server.start()
        except OSError as error:
            raise Misconfigured("listen", str(error)) from error
        logger.info("listening on port {}", port, action="listen")
        # What is there by now stays: the garbage collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        work = asyncio.create_task(self._work())
        await asyncio.wait([work, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        # The order: calls first, since they need everything else; then what is asked for over NATS; then the loops;
        # then the connections.
        logger.info("shutting down", action="shutdown")
        self._telemetry.health.stop()
        await self._server.stop(
            self._hub, notice_seconds=SHUTDOWN_NOTICE_SECONDS, grace_seconds=self._settings.drain_grace_seconds
        )
        await self._bus.stop_listening()
        await self._worker_requests.drain()
        for loop in self._loops:
            loop.stop()
        if self._looping:
            await asyncio.wait([work], timeout=LOOPS_GRACE_SECONDS)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        self._bucket.close()
        await self._bus.close()
        await self._database_for_calls.close()
        await self._database.close()
        telling.cancel()
        await asyncio.to_thread(self._telemetry.close)
        logger.info("stopped", action="stopped")

    async def _work(self) -> None:
        # Side by side, so that each says of itself alone what it waits for.
        await asyncio.gather(
            self._wait_for_schema(),
            self._bus.connect(
                self._settings.nats_url.get_secret_value(), name="easel-gateway", ca_file=self._settings.nats_ca_file
            ),
        )
        await self._worker_requests.listen()
        await self._hub.listen()
        await self._progress.listen()
        # First the streams, so that nothing else looks for them in vain; if it fails, its loop tries again.
        with contextlib.suppress(BusUnavailable, DatabaseUnavailable):
            await self._ensure_topology()
        self._looping = True
        async with asyncio.TaskGroup() as tasks:
            for loop in self._loops:
                tasks.create_task(loop.run())

    async def _wait_for_schema(self) -> None:
        """Wait until somebody has migrated the database, as a deployment's job may do beside us."""
        url = self._settings.database_url.get_secret_value()
        told = ""
        while True:
            lack = "its schema is not there yet: `python -m gateway migrate` makes it"
            try:
                if await asyncio.to_thread(schema.is_current, url):
                    return
            except DatabaseUnavailable as error:
                lack = str(error.__cause__).splitlines()[0]
            if lack != told:
                logger.warning("waiting for the database: {}", lack, action="wait")
                told = lack
            await asyncio.sleep(SCHEMA_POLL_SECONDS)

    async def _tell_health(self) -> None:
        await self._server.set_healthy(healthy=self._telemetry.health.readiness().good)
        if self._database_seen():
            self._metrics.forget_record()

    async def _ensure_topology(self) -> None:
        await self._catalogue.refresh()
        await self._topology.ensure()
        self._streams_seen.note()

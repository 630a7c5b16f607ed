"""The streams and consumers on NATS: the gateway alone makes them, and makes sure of them again and again."""

import nats.errors
import nats.js.errors
from loguru import logger
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from easel import subjects
from easel.bus import Bus, BusUnavailable
from gateway.catalogue import Catalogue

#: A claim is quick: a hint that is not acknowledged by then goes to another worker.
HINT_ACK_WAIT_SECONDS = 10.0
RESULTS_MAX_AGE_SECONDS = 7 * 24 * 3600.0
PROGRESS_MAX_AGE_SECONDS = 60.0
#: Some 2,000 reports with a preview, or 100,000 without. Past it the oldest are forgotten, which costs a watch that
#: begins in the middle the last step, until the next.
PROGRESS_MAX_BYTES = 64 * 1024 * 1024

STREAMS = (
    StreamConfig(
        name=subjects.TASKS_STREAM,
        subjects=[subjects.ALL_TASKS],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.OLD,
    ),
    StreamConfig(
        name=subjects.RESULTS_STREAM,
        subjects=[subjects.ALL_RESULTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=RESULTS_MAX_AGE_SECONDS,
        discard=DiscardPolicy.NEW,
    ),
    StreamConfig(
        name=subjects.PROGRESS_STREAM,
        subjects=[subjects.ALL_PROGRESS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.MEMORY,
        max_msgs_per_subject=1,
        max_age=PROGRESS_MAX_AGE_SECONDS,
        max_bytes=PROGRESS_MAX_BYTES,
        discard=DiscardPolicy.OLD,
        allow_direct=True,
    ),
)


class Topology:
    """Makes sure of the streams, of the projection's consumer, and of one consumer of hints for each known model.

    Args:
        bus: The way to NATS.
        catalogue: The known models.
        replicas: On how many servers of a cluster each stream is kept.
        result_ack_wait_seconds: How long a gateway may take to commit a result before another one gets it too. Nothing
            is judged while one is under way, so this is what the crash of a gateway costs.
    """

    def __init__(self, bus: Bus, catalogue: Catalogue, *, replicas: int, result_ack_wait_seconds: float) -> None:
        self._bus = bus
        self._replicas = replicas
        self._catalogue = catalogue
        self._result_ack_wait_seconds = result_ack_wait_seconds

    async def ensure(self) -> None:
        """Make what is missing, and bring what differs to its configuration.

        Raises:
            BusUnavailable: JetStream is out of reach.
        """
        try:
            for stream in STREAMS:
                await self._ensure_stream(stream.evolve(num_replicas=self._replicas))
            await self._ensure_consumer(
                subjects.RESULTS_STREAM,
                ConsumerConfig(
                    durable_name=subjects.PROJECTION_CONSUMER,
                    deliver_policy=DeliverPolicy.ALL,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=self._result_ack_wait_seconds,
                    max_deliver=-1,
                ),
            )
            for model in self._catalogue.models:
                await self._ensure_consumer(
                    subjects.TASKS_STREAM,
                    ConsumerConfig(
                        durable_name=subjects.task_consumer(model),
                        filter_subject=subjects.tasks_of(model),
                        ack_policy=AckPolicy.EXPLICIT,
                        ack_wait=HINT_ACK_WAIT_SECONDS,
                        max_deliver=-1,
                    ),
                )
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"cannot make sure of the streams: {error!r}") from error

    async def _ensure_stream(self, wanted: StreamConfig) -> None:
        jetstream = self._bus.jetstream
        try:
            found = (await jetstream.stream_info(str(wanted.name))).config
        except nats.js.errors.NotFoundError:
            await jetstream.add_stream(wanted)
            logger.info("made stream {}", wanted.name, action="stream_made")
            return
        if _differs(found, wanted):
            await jetstream.update_stream(wanted)
            logger.info("updated stream {}", wanted.name, action="stream_updated")

    async def _ensure_consumer(self, stream: str, wanted: ConsumerConfig) -> None:
        jetstream = self._bus.jetstream
        try:
            found = (await jetstream.consumer_info(stream, str(wanted.durable_name))).config
        except nats.js.errors.NotFoundError:
            found = None
        if found is None or _differs(found, wanted):
            await jetstream.add_consumer(stream, wanted)
            logger.info("made consumer {} of {}", wanted.durable_name, stream, action="consumer_made")


def _differs(found: StreamConfig | ConsumerConfig, wanted: StreamConfig | ConsumerConfig) -> bool:
    """Whether what is there differs in anything that we ask for; the rest is the server's to choose."""
    given = {name: value for name, value in vars(wanted).items() if value not in (None, False)}
    return any(getattr(found, name) != value for name, value in given.items())

"""A gateway that answers workers as a test tells it to; the servers it speaks over are real."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable

import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from easel import subjects
from easel.bus import Bus
from easel.v1.generation_pb2 import GenerationSpec
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.progress_pb2 import ProgressReport
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import AttemptRef, CancelNotice, Task, TaskHint

ACK_WAIT_SECONDS = 60.0
WAIT_SECONDS = 30.0

STREAMS = (
    StreamConfig(
        name=subjects.TASKS_STREAM,
        subjects=[subjects.ALL_TASKS],
        retention=RetentionPolicy.WORK_QUEUE,
        max_msgs_per_subject=1,
    ),
    StreamConfig(name=subjects.RESULTS_STREAM, subjects=[subjects.ALL_RESULTS], discard=DiscardPolicy.NEW),
    StreamConfig(
        name=subjects.PROGRESS_STREAM,
        subjects=[subjects.ALL_PROGRESS],
        storage=StorageType.MEMORY,
        max_msgs_per_subject=1,
    ),
)


def spec(**given: object) -> GenerationSpec:
    """A spec with nothing left open, as a claim brings it."""
    values: dict[str, object] = {
        "model": "tiny",
        "prompt": "a castle",
        "width": 64,
        "height": 64,
        "steps": 4,
        "guidance_scale": 7.5,
        "seed": 7,
        "image_count": 1,
        "scheduler": "ddim",
    }
    return GenerationSpec(**(values | given))  # type: ignore[arg-type]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class ScriptedGateway:
    """Grants every claim of what was queued with it, and records what workers say."""

    def __init__(self, bus: Bus, *, model: str) -> None:
        self.bus = bus
        self.model = model
        self.tasks: dict[str, Task] = {}
        self.claims: list[ClaimRequest] = []
        self.renewals: list[RenewRequest] = []
        self.releases: list[ReleaseRequest] = []
        self.results: dict[str, list[Result]] = defaultdict(list)
        self.reports: dict[str, list[ProgressReport]] = defaultdict(list)
        #: Named in the answer to the next renewals.
        self.dropped: list[AttemptRef] = []
        #: Answers a claim; None keeps silent.
        self.answer: Callable[[ClaimRequest], ClaimResponse | None] = self.grant
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Make the streams anew and the consumer, and listen."""
        for stream in STREAMS:
            await self._forget(str(stream.name))
            await self.bus.jetstream.add_stream(stream)
        await self.make_consumer()
        await self.listen()

    async def listen(self) -> None:
        """Hear workers; until then nobody answers them."""
        await self.bus.subscribe(subjects.CLAIM, self._on_claim)
        await self.bus.subscribe(subjects.RENEW, self._on_renew)
        await self.bus.subscribe(subjects.RELEASE, self._on_release)
        await self.bus.subscribe(subjects.ALL_RESULTS, self._on_result)
        await self.bus.subscribe(subjects.ALL_PROGRESS, self._on_report)
        # A round trip: the server has the subscriptions by now, and what others publish from here on arrives.
        await self.bus.jetstream.account_info()

    async def make_streams(self) -> None:
        """Make what a wiped server lost."""
        for stream in STREAMS:
            await self.bus.jetstream.add_stream(stream)
        await self.make_consumer()

    async def make_consumer(self) -> None:
        """Make the queue of hints of the model."""
        await self.bus.jetstream.add_consumer(
            subjects.TASKS_STREAM,
            ConsumerConfig(
                durable_name=subjects.task_consumer(self.model),
                filter_subject=subjects.tasks_of(self.model),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_SECONDS,
                max_deliver=-1,
            ),
        )

    async def delete_consumer(self) -> None:
        """Delete the queue of hints under the worker."""
        await self.bus.jetstream.delete_consumer(subjects.TASKS_STREAM, subjects.task_consumer(self.model))

    async def queue(self, wanted: GenerationSpec | None = None, *, attempt: int = 1) -> str:
        """Queue a generation and return its id."""
        generation_id = str(uuid.uuid4())
        task = Task(
            generation_id=generation_id,
            attempt=attempt,
            spec=wanted or spec(model=self.model),
            object_prefix=f"results/{generation_id}/{attempt}-abcd/",
            claim_id=str(uuid.uuid4()),
        )
        task.lease.FromSeconds(30)
        self.tasks[generation_id] = task
        await self.hint(generation_id)
        return generation_id

    async def hint(self, generation_id: str) -> None:
        """Say once more that there is something to draw."""
        await self.bus.publish(subjects.task(self.model, generation_id), TaskHint(generation_id=generation_id))

    async def cancel(self, generation_id: str) -> None:
        """Broadcast that a generation was cancelled."""
        await self.bus.tell(subjects.CANCEL, CancelNotice(generation_id=generation_id))

    async def until_no_hint_is_left(self) -> None:
        """Wait until every hint was acknowledged."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.hints_left():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def hints_left(self) -> int:
        """Count the hints on the queue, delivered or not."""
        return (await self.bus.jetstream.stream_info(subjects.TASKS_STREAM)).state.messages

    async def until_connected(self) -> None:
        """Wait until the connection is up again."""
        await eventually(lambda: self.bus.connected_seconds > 0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something a worker said makes a condition true."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def result_of(self, generation_id: str) -> Result:
        """Wait for the first result of a generation."""
        await self.until(lambda: bool(self.results[generation_id]))
        return self.results[generation_id][0]

    def grant(self, request: ClaimRequest) -> ClaimResponse:
        """Grant what was queued; anything else is gone."""
        task = self.tasks.get(request.generation_id)
        if task is None:
            return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GONE)
        return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GRANTED, task=task)

    async def _on_claim(self, message: Msg) -> None:
        request = ClaimRequest.FromString(message.data)
        self.claims.append(request)
        self._changed.set()
        if (response := self.answer(request)) is not None:
            await message.respond(response.SerializeToString())

    async def _on_renew(self, message: Msg) -> None:
        self.renewals.append(RenewRequest.FromString(message.data))
        self._changed.set()
        await message.respond(RenewResponse(dropped=self.dropped).SerializeToString())

    async def _on_release(self, message: Msg) -> None:
        self.releases.append(ReleaseRequest.FromString(message.data))
        self._changed.set()
        await message.respond(ReleaseResponse().SerializeToString())

    async def _on_result(self, message: Msg) -> None:
        result = Result.FromString(message.data)
        self.results[result.generation_id].append(result)
        self._changed.set()

    async def _on_report(self, message: Msg) -> None:
        report = ProgressReport.FromString(message.data)
        self.reports[report.generation_id].append(report)
        self._changed.set()

    async def _forget(self, stream: str) -> None:
        try:
            await self.bus.jetstream.delete_stream(stream)
        except nats.js.errors.NotFoundError:
            return

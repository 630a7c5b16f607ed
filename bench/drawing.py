"""A worker that draws nothing, for thousands of generations at once, in a process of its own.

It speaks the workers' protocol over the real bus: it renews, takes hints, claims, reports progress once a second for
each generation that it holds, spread evenly, and publishes results. The time at which a report is published travels in
`Progress.step_seconds`, that of a result in its `PhaseTimes.waiting`, so that whoever watches can tell how long each
took; what a real worker would say there is of no interest here. Asked `{take}`, it answers once it holds so many more;
asked `{finish, seconds}`, it publishes the results of so many, spread over so long, and answers `{finished}`.
"""

import asyncio
import itertools
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
import uvloop
from nats.aio.msg import Msg

from bench import worker
from bench.child import answer_questions
from easel import logs, subjects
from easel.bus import Bus, BusUnavailable
from easel.v1.generation_pb2 import Phase
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.progress_pb2 import ProgressReport
from easel.worker.v1.result_pb2 import Result
from easel.worker.v1.task_pb2 import Task, TaskHint

RENEW_SECONDS = 3.0
REPORT_SECONDS = 1.0
#: Into so many slices is each second cut: a slice's reports go out together.
SLICES = 50
FETCH = 64
CONCURRENCY = 32
RETRY_SECONDS = 0.2


@dataclass(kw_only=True, slots=True)
class Held:
    """A generation that is drawn."""

    task: Task
    #: The slice of each second in which it is reported.
    slice: int
    reports: int = 0


class Worker:
    """Holds generations, and speaks of them."""

    def __init__(self, bus: Bus, *, slots: int) -> None:
        self._bus = bus
        self._slots = slots
        self._held: deque[Held] = deque()
        self._slices = itertools.cycle(range(SLICES))
        self._concurrency = asyncio.Semaphore(CONCURRENCY)

    async def run(self) -> None:
        """Renew and report for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            tasks.create_task(self._report())

    async def take(self, count: int) -> None:
        """Take hints and claim until so many more are held."""
        wanted = len(self._held) + count
        while len(self._held) < wanted:
            await asyncio.gather(*(self._claim(message) for message in await self._fetch()))

    async def finish(self, count: int, *, seconds: float) -> None:
        """Publish the results of so many, evenly spread over a time."""
        began = time.monotonic()
        finishing = []
        for index in range(count):
            await asyncio.sleep(max(0.0, began + index * seconds / count - time.monotonic()))
            finishing.append(asyncio.create_task(self._succeed(self._held.popleft().task)))
        await asyncio.gather(*finishing)

    async def _renew(self) -> None:
        while True:
            try:
                await worker.renew(self._bus, slots=self._slots, tasks=[held.task for held in self._held])
            except BusUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(RENEW_SECONDS)

    async def _report(self) -> None:
        due = time.monotonic()
        for current in itertools.cycle(range(SLICES)):
            for held in [held for held in self._held if held.slice == current]:
                await self._bus.tell(subjects.progress(held.task.generation_id), _next_report(held))
            due += REPORT_SECONDS / SLICES
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _fetch(self) -> Sequence[Msg]:
        subscription = None
        try:
            subscription = await self._bus.jetstream.pull_subscribe_bind(
                consumer=subjects.task_consumer(worker.MODEL.name), stream=subjects.TASKS_STREAM
            )
            return await subscription.fetch(FETCH, timeout=RETRY_SECONDS)
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error, BusUnavailable):
            return []
        finally:
            if subscription is not None:
                await subscription.unsubscribe()

    async def _claim(self, message: Msg) -> None:
        generation_id = TaskHint.FromString(message.data).generation_id
        request = ClaimRequest(claim_id=uuid.uuid4().hex, generation_id=generation_id, worker_id=worker.WORKER_ID)
        response = await self._bus.request(subjects.CLAIM, request, ClaimResponse)
        await message.ack()
        if response.answer == ClaimAnswer.CLAIM_ANSWER_GRANTED:
            self._held.append(Held(task=response.task, slice=next(self._slices)))

    async def _succeed(self, task: Task) -> None:
        result = Result(generation_id=task.generation_id, attempt=task.attempt, worker_id=worker.WORKER_ID)
        stored = result.success.images.add(object_key=f"{task.object_prefix}0.png")
        stored.image.sha256 = "ab" * 32
        async with self._concurrency:
            result.success.phase_times.waiting.FromNanoseconds(time.time_ns())
            await self._bus.publish(subjects.result(task.generation_id), result, message_id=task.object_prefix)


def _next_report(held: Held) -> ProgressReport:
    held.reports += 1
    report = ProgressReport(generation_id=held.task.generation_id, sequence=held.reports)
    progress = report.progress
    progress.attempt, progress.phase = held.task.attempt, Phase.PHASE_DENOISING
    progress.step, progress.steps = min(held.reports, held.task.spec.steps), held.task.spec.steps
    progress.step_seconds = time.time()
    return report


async def main() -> None:
    """Work until nobody asks any more."""
    url, slots = sys.argv[1:]
    logs.configure(service="bench", level="WARNING")
    bus = Bus()
    await bus.connect(url, name="bench-worker")
    drawing = Worker(bus, slots=int(slots))
    running = asyncio.create_task(drawing.run())

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "take" in question:
            await drawing.take(question["take"])
            return {"taken": question["take"]}
        await drawing.finish(question["finish"], seconds=question["seconds"])
        return {"finished": question["finish"]}

    await answer_questions(answer)
    running.cancel()
    await asyncio.wait([running])
    await bus.close()


if __name__ == "__main__":
    uvloop.run(main())

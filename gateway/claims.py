"""What workers ask over NATS: claim, renew, release. Any gateway answers."""

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import nats.errors
from google.protobuf.message import DecodeError, Message
from loguru import logger
from nats.aio.msg import Msg

from easel import crash, subjects
from easel.bus import Bus, BusUnavailable
from easel.crash import CrashPoint
from easel.v1.generation_pb2 import GenerationSpec
from easel.v1.model_pb2 import Model
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse
from easel.worker.v1.task_pb2 import AttemptRef, Task
from gateway.announcements import Announcements
from gateway.bucket import StorageUnavailable
from gateway.errors import DatabaseUnavailable
from gateway.metrics import Metrics
from gateway.recall import Recall
from gateway.record.attempts import Attempt, Attempts, Grant, NotYet, Refusal
from gateway.record.documents import from_json, to_json
from gateway.record.generation import Change, State
from gateway.record.models import Models

#: How many requests of workers are answered at the same time; further ones wait.
CONCURRENCY = 64


class Claims:
    """Answers the workers. Every answer rests on one committed statement."""

    def __init__(
        self,
        attempts: Attempts,
        models: Models,
        recall: Recall,
        *,
        announcements: Announcements,
        lease: timedelta,
        on_new_model: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._attempts = attempts
        self._models = models
        self._recall = recall
        self._announcements = announcements
        self._lease = lease
        self._on_new_model = on_new_model
        self._metrics = metrics
        self._known_models: set[str] = set()

    async def claim(self, request: ClaimRequest) -> ClaimResponse:
        """Grant a generation to a worker, or say why not.

        Raises:
            DatabaseUnavailable: nothing is known, it may have been granted; the worker hears nothing and asks again.
            BusUnavailable, StorageUnavailable: it was not granted, since it may be drawn already.
        """
        response = await self._claim(request)
        self._metrics.count_claim(response.answer)
        return response

    async def renew(self, request: RenewRequest) -> RenewResponse:
        """Extend what a worker holds, say what it lost, and take note of what it is.

        Raises:
            DatabaseUnavailable: nothing is known; the worker hears nothing and asks again.
        """
        models = [(model.name, to_json(model)) for model in request.models if _is_model(model)]
        await self._models.report(
            worker_id=request.worker_id, slots=request.slots, free_slots=request.free_slots, models=models
        )
        held = _attempts(request.attempts)
        kept = await self._attempts.renew(held, lease=self._lease)
        self._note_models(name for name, _ in models)
        response = RenewResponse(
            dropped=[
                AttemptRef(generation_id=attempt.generation_id, attempt=attempt.number, claim_id=attempt.claim_id)
                for attempt in held
                if attempt not in kept
            ]
        )
        response.lease.FromTimedelta(self._lease)
        return response

    async def release(self, request: ReleaseRequest) -> ReleaseResponse:
        """Take attempts back from a worker.

        Raises:
            DatabaseUnavailable: nothing is known; the worker hears nothing and asks again.
        """
        changes = await self._attempts.release(_attempts(request.attempts))
        if request.leaving:
            await self._models.forget_worker(request.worker_id)
        await self._announcements.announce(*changes)
        return ReleaseResponse()

    async def _claim(self, request: ClaimRequest) -> ClaimResponse:
        generation_id = _generation_id(request.generation_id)
        if generation_id is None:
            return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GONE)
        # What is drawn already, and was only forgotten, is not drawn once more.
        await self._recall.recall(generation_id)
        answer = await self._attempts.claim(
            generation_id,
            claim_id=request.claim_id,
            worker_id=request.worker_id,
            nonce=secrets.token_hex(4),
            lease=self._lease,
        )
        if isinstance(answer, Grant):
            crash.reach(CrashPoint.AFTER_CLAIM)
            change = Change(
                generation_id=answer.generation_id, revision=answer.revision, state=State.RUNNING, model=answer.model
            )
            announce = self._announcements.announce if answer.is_new else self._announcements.remind
            await announce(change)
        return self._to_response(answer, claim_id=request.claim_id)

    def _note_models(self, names: Iterable[str]) -> None:
        new = set(names) - self._known_models
        self._known_models |= new
        if new:
            self._on_new_model()

    def _to_response(self, answer: Grant | Refusal | NotYet, *, claim_id: str) -> ClaimResponse:
        if isinstance(answer, NotYet):
            response = ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_NOT_YET)
            response.retry_after.FromTimedelta(answer.retry_after)
            return response
        if isinstance(answer, Refusal):
            return ClaimResponse(
                answer=ClaimAnswer.CLAIM_ANSWER_HELD if answer == Refusal.HELD else ClaimAnswer.CLAIM_ANSWER_GONE
            )
        task = Task(
            generation_id=answer.generation_id,
            attempt=answer.attempt,
            spec=from_json(answer.resolved_spec, GenerationSpec()),
            object_prefix=answer.object_prefix,
            alone=answer.alone,
            claim_id=claim_id,
        )
        task.lease.FromTimedelta(self._lease)
        return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GRANTED, task=task)


class WorkerRequests:
    """Listens to the workers and has `Claims` answer them, many at the same time."""

    def __init__(self, bus: Bus, claims: Claims, *, metrics: Metrics) -> None:
        self._bus = bus
        self._claims = claims
        self._metrics = metrics
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Subscribe; the bus keeps the subscriptions across reconnections."""
        await self._serve(subjects.CLAIM, ClaimRequest, self._claims.claim)
        await self._serve(subjects.RENEW, RenewRequest, self._claims.renew)
        await self._serve(subjects.RELEASE, ReleaseRequest, self._claims.release)

    async def drain(self) -> None:
        """Wait until every request taken so far is answered."""
        await asyncio.gather(*self._tasks)

    async def _serve(
        self, subject: str, request_type: type[Message], answer: Callable[..., Awaitable[Message]]
    ) -> None:
        async def on_message(message: Msg) -> None:
            # nats-py awaits one callback at a time: answering in a task keeps a slow one from blocking the others.
            await self._slots.acquire()
            task = asyncio.create_task(self._answer(message, request_type, answer))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

        await self._bus.subscribe(subject, on_message, queue=subjects.GATEWAY_QUEUE)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._slots.release()
        self._tasks.discard(task)

    async def _answer(
        self, message: Msg, request_type: type[Message], answer: Callable[..., Awaitable[Message]]
    ) -> None:
        try:
            response = await answer(request_type.FromString(message.data))
            await message.respond(response.SerializeToString())
        except DecodeError:
            self._metrics.unreadable_messages.inc()
            logger.warning("unreadable request on {}", message.subject, action="unreadable_request")
        except (DatabaseUnavailable, BusUnavailable, StorageUnavailable, nats.errors.Error) as error:
            # The worker hears nothing, and asks again.
            logger.debug("no answer to {}: {}", message.subject, error, action="unanswered")
        except Exception:  # noqa: BLE001
            logger.exception("a defect left {} unanswered", message.subject, action="defect")


def _attempts(refs: Iterable[AttemptRef]) -> list[Attempt]:
    return [
        Attempt(generation_id=generation_id, number=ref.attempt, claim_id=ref.claim_id)
        for ref in refs
        if (generation_id := _generation_id(ref.generation_id)) is not None
    ]


def _generation_id(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _is_model(model: Model) -> bool:
    if not subjects.is_token(model.name):
        logger.warning("a worker reports a model whose name is no slug: {!r}", model.name, action="bad_model")
        return False
    return True

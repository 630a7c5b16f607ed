"""`easel.v1.GenerationService`: checks what a client sends, has it done, and writes what comes of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from loguru import logger

from easel.logs import annotate
from easel.v1 import generation_messages_pb2 as messages
from easel.v1 import generation_pb2
from easel.v1.generation_service_pb2_grpc import GenerationServiceServicer
from gateway.accept import Acceptance, CheckedRequest, Request
from gateway.announcements import Announcements
from gateway.api import lists, specs
from gateway.api.calls import owner
from gateway.api.messages import to_attempt, to_images, to_message
from gateway.api.violations import Violations
from gateway.catalogue import Catalogue
from gateway.errors import GenerationNotFinal, GenerationNotFound, GenerationNotSucceeded, InvalidRequest
from gateway.images import ImageSigner
from gateway.page_token import to_token as to_page_token
from gateway.record.generation import Generation, State
from gateway.record.generations import Generations
from gateway.record.listing import Listing
from gateway.record.queue import Queue
from gateway.record.removal import Removal
from gateway.resume_token import Position, to_token
from gateway.watch import Sight, Watching

Response = TypeVar("Response", messages.GenerateResponse, messages.WatchGenerationResponse)
Context = grpc.aio.ServicerContext[Any, Any]


class GenerationService(GenerationServiceServicer):
    """The public face of generations. Errors are raised as `gateway.errors`; the interceptor gives them a status."""

    def __init__(
        self,
        *,
        acceptance: Acceptance,
        generations: Generations,
        queue: Queue,
        watching: Watching,
        catalogue: Catalogue,
        listing: Listing,
        removal: Removal,
        nudge_removal: Callable[[], None],
        announcements: Announcements,
        signer: ImageSigner,
        url_lifetime: timedelta,
    ) -> None:
        self._acceptance = acceptance
        self._generations = generations
        self._queue = queue
        self._watching = watching
        self._catalogue = catalogue
        self._listing = listing
        self._removal = removal
        self._nudge_removal = nudge_removal
        self._announcements = announcements
        self._signer = signer
        self._url_lifetime = url_lifetime

    async def CreateGeneration(
        self, request: messages.CreateGenerationRequest, context: Context
    ) -> messages.CreateGenerationResponse:
        """Accept a generation."""
        generation = await self._create_generation(request.request_id, request.spec)
        return messages.CreateGenerationResponse(generation=self._to_answer(generation))

    async def BatchCreateGenerations(
        self, request: messages.BatchCreateGenerationsRequest, context: Context
    ) -> messages.BatchCreateGenerationsResponse:
        """Accept several generations, or none."""
        specs.check_batch(request)
        found: dict[int, Generation] = {}
        checked: dict[int, CheckedRequest] = {}
        violations = Violations()
        for index, one in enumerate(request.requests):
            try:
                known = await self._check(_request(one.request_id, one.spec))
            except InvalidRequest as refused:
                violations.include(refused, prefix=f"requests[{index}].")
                continue
            if isinstance(known, Generation):
                found[index] = known
            else:
                checked[index] = known
        violations.raise_any()
        created = await self._acceptance.create_generations(list(checked.values()))
        found |= dict(zip(checked, created, strict=True))
        answers = [self._to_answer(found[index]) for index in range(len(request.requests))]
        return messages.BatchCreateGenerationsResponse(generations=answers)

    async def Generate(
        self, request: messages.GenerateRequest, context: Context
    ) -> AsyncGenerator[messages.GenerateResponse, None]:
        """Accept a generation and watch it."""
        generation = await self._create_generation(request.request_id, request.spec)
        start = Position(generation_id=generation.id, revision=0)
        async with aclosing(self._watch_generation(start, messages.GenerateResponse)) as responses:
            async for response in responses:
                yield response

    async def WatchGeneration(
        self, request: messages.WatchGenerationRequest, context: Context
    ) -> AsyncGenerator[messages.WatchGenerationResponse, None]:
        """Watch a generation."""
        generation_id = _about(request.id)
        position = specs.check_resume_token(request.resume_token, generation_id=generation_id)
        async with aclosing(self._watch_generation(position, messages.WatchGenerationResponse)) as responses:
            async for response in responses:
                yield response

    async def GetGeneration(
        self, request: messages.GetGenerationRequest, context: Context
    ) -> messages.GetGenerationResponse:
        """Read a generation."""
        generation = await self._get_generation(_about(request.id))
        return messages.GetGenerationResponse(generation=await self._to_message(generation))

    async def ListGenerations(
        self, request: messages.ListGenerationsRequest, context: Context
    ) -> messages.ListGenerationsResponse:
        """Read a page of generations."""
        violations = Violations()
        page_size = lists.check_page_size(request, violations)
        before_id = lists.check_page_token(request, violations)
        which = lists.check_filter(request, violations)
        violations.raise_any()
        # One more than goes onto the page tells whether there is another page.
        listed = await self._listing.list_generations(
            which, owner=owner.get(), before_id=before_id, limit=page_size + 1
        )
        # In a thread, as a long page takes its time.
        page = await asyncio.to_thread(
            lists.fit, (to_message(generation, signer=None) for generation in listed[:page_size])
        )
        response = messages.ListGenerationsResponse(generations=page)
        if len(page) < len(listed):
            response.next_page_token = to_page_token(page[-1].id, filters=lists.filters_of(request))
        return response

    async def ListAttempts(
        self, request: messages.ListAttemptsRequest, context: Context
    ) -> messages.ListAttemptsResponse:
        """Read a page of the attempts at a generation."""
        generation_id = _about(request.id)
        page_size, after = lists.check_attempts_page(request)
        attempts = await self._listing.list_attempts(generation_id, owner=owner.get(), after=after, limit=page_size + 1)
        if attempts is None:
            raise GenerationNotFound(generation_id)
        page = lists.fit(to_attempt(attempt) for attempt in attempts[:page_size])
        response = messages.ListAttemptsResponse(attempts=page)
        if len(page) < len(attempts):
            response.next_page_token = to_page_token(page[-1].number, filters=lists.attempts_of(request))
        return response

    async def CancelGeneration(
        self, request: messages.CancelGenerationRequest, context: Context
    ) -> messages.CancelGenerationResponse:
        """Cancel a generation."""
        generation_id = _about(request.id)
        change = await self._generations.cancel_generation(generation_id, owner=owner.get())
        if change is not None:
            await self._announcements.announce(change, stop_workers=True)
            await self._announcements.withdraw_hint(change)
        generation = await self._get_generation(generation_id)
        return messages.CancelGenerationResponse(generation=await self._to_message(generation))

    async def DeleteGeneration(
        self, request: messages.DeleteGenerationRequest, context: Context
    ) -> messages.DeleteGenerationResponse:
        """Remove a final generation and its pictures."""
        generation_id = _about(request.id)
        deleted = await self._removal.delete_generation(
            generation_id, owner=owner.get(), immediately=request.immediately
        )
        if not deleted:
            generation = await self._get_generation(generation_id)
            raise GenerationNotFinal(generation_id, state=generation.state)
        logger.info("deleted", action="delete", immediately=request.immediately)
        self._nudge_removal()
        return messages.DeleteGenerationResponse()

    async def RetryGeneration(
        self, request: messages.RetryGenerationRequest, context: Context
    ) -> messages.RetryGenerationResponse:
        """Accept a new generation with the spec of a final one."""
        generation = await self._retry_generation(_about(request.id), request.request_id)
        return messages.RetryGenerationResponse(generation=self._to_answer(generation))

    async def SignImageUrls(
        self, request: messages.SignImageUrlsRequest, context: Context
    ) -> messages.SignImageUrlsResponse:
        """Sign fresh URLs."""
        generation_id = _about(request.id)
        lifetime = specs.check_lifetime(
            request.lifetime if request.HasField("lifetime") else None, default=self._url_lifetime
        )
        generation = await self._get_generation(generation_id)
        if generation.state != State.SUCCEEDED:
            raise GenerationNotSucceeded(generation_id, state=generation.state)
        return messages.SignImageUrlsResponse(images=to_images(generation, signer=self._signer, lifetime=lifetime))

    async def _create_generation(
        self, request_id: str, spec: generation_pb2.GenerationSpec, *, retried_from: str | None = None
    ) -> Generation:
        known = await self._check(_request(request_id, spec, retried_from=retried_from))
        return known if isinstance(known, Generation) else await self._acceptance.create_generation(known)

    async def _retry_generation(self, generation_id: str, request_id: str) -> Generation:
        old = await self._generations.get_generation(generation_id, owner=owner.get())
        if old is None:
            # What it was retried by before is found, also after it was deleted.
            found = await self._acceptance.find_retry(
                owner=owner.get(), request_id=request_id, retried_from=generation_id
            )
            if found is None:
                raise GenerationNotFound(generation_id)
            return found
        if not old.state.is_final:
            raise GenerationNotFinal(old.id, state=old.state)
        return await self._create_generation(request_id, old.spec, retried_from=old.id)

    async def _check(self, request: Request) -> CheckedRequest | Generation:
        """Check a request; return what it made before if only its model has changed since."""
        models = await self._catalogue.including(request.spec.model)
        try:
            resolved_spec = specs.resolve(request.spec, request_id=request.request_id, models=models)
        except InvalidRequest as refused:
            # Models change: what was accepted before is not refused now.
            found = await self._acceptance.find_generation(request) if refused.depends_on_model else None
            if found is None:
                raise
            return found
        return CheckedRequest(**vars(request), resolved_spec=resolved_spec)

    async def _get_generation(self, generation_id: str) -> Generation:
        generation = await self._generations.get_generation(generation_id, owner=owner.get())
        if generation is None:
            raise GenerationNotFound(generation_id)
        return generation

    async def _watch_generation(
        self, position: Position, response_type: type[Response]
    ) -> AsyncGenerator[Response, None]:
        async with aclosing(self._watching.watch_generation(position, owner=owner.get())) as sights:
            async for sight in sights:
                yield await self._to_response(sight, response_type)

    async def _to_response(self, sight: Sight, response_type: type[Response]) -> Response:
        response = response_type(resume_token=to_token(sight.position))
        if sight.generation is not None:
            response.generation.CopyFrom(await self._to_message(sight.generation))
        elif sight.progress is not None:
            response.progress.CopyFrom(sight.progress)
        elif sight.preview is not None:
            response.preview.CopyFrom(sight.preview)
        return response

    def _to_answer(self, generation: Generation) -> generation_pb2.Generation:
        """Write a generation just accepted; to count its place in the queue would cost more than accepting it."""
        return to_message(generation, signer=self._signer)

    async def _to_message(self, generation: Generation) -> generation_pb2.Generation:
        queue_position = None
        if generation.state == State.QUEUED:
            queue_position = await self._queue.get_queue_position(generation)
        return to_message(generation, signer=self._signer, queue_position=queue_position)


def _request(request_id: str, spec: generation_pb2.GenerationSpec, *, retried_from: str | None = None) -> Request:
    return Request(owner=owner.get(), request_id=request_id, spec=spec, retried_from=retried_from)


def _about(generation_id: str) -> str:
    checked = specs.check_generation_id(generation_id)
    annotate(generation_id=checked)
    return checked

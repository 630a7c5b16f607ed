"""The client itself: one method for each thing to be asked of the service."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from easel.client import channel, download, errors, listing
from easel.client.errors import FailedPrecondition, NotFound, Unavailable
from easel.client.events import Event, Position
from easel.client.listing import Filters, Page
from easel.client.outage import Deadline, OnOutage, Outage
from easel.client.watch import Stream, follow
from easel.v1.generation_messages_pb2 import (
    BatchCreateGenerationsRequest,
    CancelGenerationRequest,
    CreateGenerationRequest,
    DeleteGenerationRequest,
    GenerateRequest,
    GetGenerationRequest,
    ListAttemptsRequest,
    RetryGenerationRequest,
    SignImageUrlsRequest,
    WatchGenerationRequest,
)
from easel.v1.generation_pb2 import Attempt, Generation, GenerationSpec, Image
from easel.v1.generation_service_pb2_grpc import GenerationServiceStub
from easel.v1.model_pb2 import Model
from easel.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from easel.v1.model_service_pb2_grpc import ModelServiceStub

Response = TypeVar("Response")


class Client:
    """A connection to Easel, opened by `async with Client("host:port") as client`; any number of tasks may share it.

    Calls that break are repeated where that is safe, and it is for all of them: requests carry a request_id, so that
    nothing is ever drawn twice. Whatever cannot be mended is raised as an `easel.client.EaselError`.

    Args:
        target: `host:port`, or any other gRPC target.
        credentials: For TLS; without them the connection is not encrypted.
        patience_seconds: How long the service may be out of reach before a stream or a download is given up.
        call_seconds: The deadline of every call but the streams.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        patience_seconds: float = 120.0,
        call_seconds: float = 30.0,
    ) -> None:
        self.target = target
        self._credentials = credentials
        self._patience_seconds = patience_seconds
        self._call_seconds = call_seconds
        self._open_channel: grpc.aio.Channel | None = None
        self._why_not_open = "the client is not open: use it as `async with Client(...) as client`"

    async def __aenter__(self) -> Self:
        if self._open_channel is not None:
            raise RuntimeError("the client is open already: share it, or make another one")
        self._open_channel = channel.connect(self.target, credentials=self._credentials)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection: calls under way raise Unavailable, generations under way are drawn all the same."""
        if self._open_channel is not None:
            closing, self._open_channel = self._open_channel, None
            self._why_not_open = channel.CLOSED
            await closing.close()

    async def create(self, spec: GenerationSpec, *, request_id: str | None = None) -> Generation:
        """Have a generation accepted, and return without waiting for it.

        Args:
            spec: What to draw.
            request_id: Sent again with the same spec, also by another process, it gives the same generation.
        """
        request = CreateGenerationRequest(request_id=request_id or _new_request_id(), spec=spec)
        return (await self._call(self._generations.CreateGeneration(request, timeout=self._call_seconds))).generation

    async def batch_create(
        self, specs: Iterable[GenerationSpec], *, request_ids: Iterable[str] | None = None
    ) -> Sequence[Generation]:
        """Have up to 100 generations accepted, all of them or, on any error, none; return them in the same order.

        Args:
            specs: What to draw, 1 MiB in all.
            request_ids: One for each spec, all different; see `create`.

        Raises:
            InvalidRequest: the fields of its violations begin with `requests[N].`.
            ValueError: there are not as many request_ids as specs.
        """
        specs = list(specs)
        ids = [_new_request_id() for _ in specs] if request_ids is None else list(request_ids)
        requests = [CreateGenerationRequest(request_id=id_, spec=spec) for spec, id_ in zip(specs, ids, strict=True)]
        request = BatchCreateGenerationsRequest(requests=requests)
        call = self._generations.BatchCreateGenerations(request, timeout=self._call_seconds)
        return (await self._call(call)).generations

    async def get(self, generation_id: str) -> Generation:
        """Return a generation as it stands; with signed URLs when it has SUCCEEDED."""
        request = GetGenerationRequest(id=generation_id)
        return (await self._call(self._generations.GetGeneration(request, timeout=self._call_seconds))).generation

    async def list(self, *, page_size: int = 0, **filters: Unpack[Filters]) -> AsyncGenerator[Generation, None]:
        """Yield generations, newest first, fetching page after page as they are asked for.

        What is accepted meanwhile does not come, and nothing that was there is skipped or comes twice.

        Args:
            page_size: How many to fetch at a time, at most 1,000; the service chooses when it is 0.
            filters: See `easel.client.Filters`.

        Raises:
            ValueError: a time has no time zone.
        """
        page_token = ""
        while True:
            page = await self.list_page(page_size=page_size, page_token=page_token, **filters)
            for generation in page.generations:
                yield generation
            if not (page_token := page.next_page_token):
                return

    async def list_page(self, *, page_size: int = 0, page_token: str = "", **filters: Unpack[Filters]) -> Page:
        """Return one page of generations, newest first.

        Args:
            page_size: How many at most, up to 1,000; the service chooses when it is 0.
            page_token: The `next_page_token` of the page before, with the same filters; the first page without.
            filters: See `easel.client.Filters`.

        Raises:
            ValueError: a time has no time zone.
        """
        request = listing.request(filters, page_size=page_size, page_token=page_token)
        answer = await self._call(self._generations.ListGenerations(request, timeout=self._call_seconds))
        return Page(generations=tuple(answer.generations), next_page_token=answer.next_page_token)

    async def list_attempts(self, generation_id: str, *, page_size: int = 0) -> AsyncGenerator[Attempt, None]:
        """Yield the attempts at a generation in order, fetching page after page as they are asked for.

        Args:
            generation_id: Which.
            page_size: How many to fetch at a time, at most 1,000; the service chooses when it is 0.
        """
        request = ListAttemptsRequest(id=generation_id, page_size=page_size)
        while True:
            page = await self._call(self._generations.ListAttempts(request, timeout=self._call_seconds))
            for attempt in page.attempts:
                yield attempt
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel(self, generation_id: str) -> Generation:
        """Cancel a generation, unless it is final already; return it as it then stands."""
        request = CancelGenerationRequest(id=generation_id)
        return (await self._call(self._generations.CancelGeneration(request, timeout=self._call_seconds))).generation

    async def delete(self, generation_id: str, *, immediately: bool = False) -> None:
        """Remove a final generation and its pictures; deleting it again does nothing.

        Args:
            generation_id: Which.
            immediately: Remove the files now, and not after the time for which the operator keeps backups.

        Raises:
            NotFinal: it is not final yet: cancel it first.
        """
        request = DeleteGenerationRequest(id=generation_id, immediately=immediately)
        await self._call(self._generations.DeleteGeneration(request, timeout=self._call_seconds))

    async def retry(self, generation_id: str, *, request_id: str | None = None) -> Generation:
        """Have what a final generation asked for accepted anew, and return the new generation.

        What the spec leaves open, the seed too, is filled in anew.

        Args:
            generation_id: Which.
            request_id: See `create`.

        Raises:
            NotFinal: it is not final yet.
        """
        request = RetryGenerationRequest(id=generation_id, request_id=request_id or _new_request_id())
        return (await self._call(self._generations.RetryGeneration(request, timeout=self._call_seconds))).generation

    async def sign_image_urls(self, generation_id: str, *, lifetime_seconds: int | None = None) -> Sequence[Image]:
        """Return the pictures of a SUCCEEDED generation with fresh URLs, good for an hour unless told otherwise."""
        lifetime = None if lifetime_seconds is None else Duration(seconds=lifetime_seconds)
        request = SignImageUrlsRequest(id=generation_id, lifetime=lifetime)
        return (await self._call(self._generations.SignImageUrls(request, timeout=self._call_seconds))).images

    async def list_models(self) -> Sequence[Model]:
        """Return every model the service knows, by name."""
        return (await self._call(self._models.ListModels(ListModelsRequest(), timeout=self._call_seconds))).models

    async def get_model(self, name: str) -> Model:
        """Return one model."""
        request = GetModelRequest(name=name)
        return (await self._call(self._models.GetModel(request, timeout=self._call_seconds))).model

    def generate(
        self,
        spec: GenerationSpec,
        *,
        request_id: str | None = None,
        deadline_seconds: float | None = None,
        on_outage: OnOutage | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Have a generation accepted, and yield what happens to it until its end.

        Broken streams are resumed unseen: every change of state comes once and in order, progress never goes back
        within an attempt. Leaving the iteration, or its deadline, does not cancel the generation.

        Args:
            spec: What to draw.
            request_id: See `create`.
            deadline_seconds: How long to watch, reconnections included; for ever by default.
            on_outage: Is called with the error of each break that is being mended, and with None once it is mended.
        """
        request = GenerateRequest(request_id=request_id or _new_request_id(), spec=spec)
        deadline = Deadline(deadline_seconds)

        def open_stream(position: Position) -> Stream:
            if position.generation is None:  # the same request_id finds the generation, should it exist already
                return self._generations.Generate(request, timeout=deadline.left_seconds)
            return self._watch_from(position.generation.id, position, deadline)

        outage = Outage(patience_seconds=self._patience_seconds, deadline=deadline, on_outage=on_outage)
        return follow(open_stream, position=Position(), outage=outage)

    def watch(
        self,
        generation_id: str,
        *,
        resume_token: str = "",
        deadline_seconds: float | None = None,
        on_outage: OnOutage | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield what happens to a generation from now, or from the `resume_token` of an earlier event, until its end.

        See `generate` for everything else.
        """
        deadline = Deadline(deadline_seconds)

        def open_stream(position: Position) -> Stream:
            return self._watch_from(generation_id, position, deadline)

        outage = Outage(patience_seconds=self._patience_seconds, deadline=deadline, on_outage=on_outage)
        return follow(open_stream, position=Position(resume_token), outage=outage)

    async def download(self, generation: Generation, path: Path | str, *, index: int = 0) -> Path:
        """Write the file of one picture of a SUCCEEDED generation to `path`; it appears there whole or not at all.

        A URL that is no longer good is signed again, once; storage that is away is waited for.

        Raises:
            CorruptDownload: the file is not the one that was stored.
            DownloadFailed: it could not be fetched.
            FailedPrecondition: the generation has no pictures.
            OSError: the file could not be written, or `path` is a folder.
        """
        path = Path(path)
        if not generation.images:
            raise FailedPrecondition(f"generation {generation.id} has no pictures")
        try:
            await self._fetch(_picture(generation.images, index), path)
        except download.LinkExpired:
            await self._fetch(_picture(await self.sign_image_urls(generation.id), index), path)
        return path

    async def _fetch(self, image: Image, path: Path) -> None:
        outage = Outage(patience_seconds=self._patience_seconds, deadline=Deadline(None))
        while True:
            try:
                return await download.fetch(image, path)
            except download.StorageAway as error:
                await outage.pause(error)

    def _watch_from(self, generation_id: str, position: Position, deadline: Deadline) -> Stream:
        request = WatchGenerationRequest(id=generation_id, resume_token=position.resume_token)
        return self._generations.WatchGeneration(request, timeout=deadline.left_seconds)

    async def _call(self, call: Awaitable[Response]) -> Response:
        try:
            with channel.closing_is_no_cancellation():
                return await call
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc(error) from error

    @property
    def _generations(self) -> GenerationServiceStub:
        return GenerationServiceStub(self._channel)

    @property
    def _models(self) -> ModelServiceStub:
        return ModelServiceStub(self._channel)

    @property
    def _channel(self) -> grpc.aio.Channel:
        if self._open_channel is None:
            raise Unavailable(self._why_not_open)
        return self._open_channel


def _new_request_id() -> str:
    return uuid.uuid4().hex


def _picture(images: Iterable[Image], index: int) -> Image:
    for image in images:
        if image.index == index:
            return image
    raise NotFound(f"the generation has no picture {index}")

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest

from easel.client import (
    Attempt,
    Client,
    Conflict,
    DeadlineExceeded,
    Deleted,
    EaselError,
    FailedPrecondition,
    FailureReason,
    Generation,
    GenerationSpec,
    ModelNotFound,
    NotFinal,
    NotFound,
    NotSucceeded,
    Unavailable,
)
from easel.client.channel import REPEATABLE
from easel.v1 import generation_service_pb2, model_service_pb2
from easel.v1.generation_messages_pb2 import ListAttemptsResponse, ListGenerationsRequest, ListGenerationsResponse
from easel.v1.generation_pb2 import Image
from easel.v1.model_pb2 import Model
from easel.v1.model_service_pb2 import ListModelsResponse
from tests.unit.easel.scripted import (
    FAILED,
    ID,
    QUEUED,
    ScriptedServer,
    error_info,
    status,
)

SPEC = GenerationSpec(prompt="a castle", steps=20)

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "going away")


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with Client(server.target) as open_client:
        yield open_client


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "create": lambda client: client.create(SPEC),
    "batch_create": lambda client: client.batch_create([SPEC, SPEC]),
    "list_page": lambda client: client.list_page(),
    "list": lambda client: anext(aiter(client.list()), None),
    "list_attempts": lambda client: anext(aiter(client.list_attempts(ID)), None),
    "delete": lambda client: client.delete(ID),
    "retry": lambda client: client.retry(ID),
    "get_model": lambda client: client.get_model("tiny"),
    "get": lambda client: client.get(ID),
    "cancel": lambda client: client.cancel(ID),
    "sign_image_urls": lambda client: client.sign_image_urls(ID),
    "list_models": lambda client: client.list_models(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_unary_calls_are_repeated_while_the_service_is_away_or_drops_them(
    client: Client, server: ScriptedServer, call: Callable[[Client], Awaitable[object]]
) -> None:
    server.unary_errors.extend([status(*UNAVAILABLE), status(grpc.StatusCode.CANCELLED, "dropped")])
    await call(client)
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_other_errors_of_unary_calls_are_raised_at_once(
    client: Client, server: ScriptedServer, call: Callable[[Client], Awaitable[object]]
) -> None:
    server.unary_errors.append(status(grpc.StatusCode.NOT_FOUND, "not here"))
    with pytest.raises(NotFound, match="not here"):
        await call(client)
    assert len(server.requests) == 1


async def test_create_makes_a_request_id_of_its_own(client: Client, server: ScriptedServer) -> None:
    await client.create(SPEC)
    await client.create(SPEC)
    ids = {request.request_id for request in server.requests}  # type: ignore[attr-defined]
    assert len(ids) == 2


async def test_a_conflict_names_the_fields_and_the_generation(client: Client, server: ScriptedServer) -> None:
    info = error_info("ERROR_REASON_REQUEST_ID_CONFLICT", fields="spec.prompt, spec.steps", id=ID)
    server.unary_errors.append(status(grpc.StatusCode.ALREADY_EXISTS, "used before", info))
    with pytest.raises(Conflict) as raised:
        await client.create(SPEC, request_id="mine")
    assert raised.value.fields == ("spec.prompt", "spec.steps")
    assert raised.value.generation_id == ID


async def test_an_unfinished_generation_has_nothing_to_sign(client: Client, server: ScriptedServer) -> None:
    info = error_info("ERROR_REASON_GENERATION_NOT_SUCCEEDED", state="GENERATION_STATE_RUNNING")
    server.unary_errors.append(status(grpc.StatusCode.FAILED_PRECONDITION, "not yet", info))
    with pytest.raises(FailedPrecondition) as raised:
        await client.sign_image_urls(ID)
    assert raised.value.state == "GENERATION_STATE_RUNNING"


async def test_answers_arrive_as_they_are(client: Client, server: ScriptedServer) -> None:
    server.signed = [Image(index=0, url="http://127.0.0.1/0")]
    server.models = ListModelsResponse(models=[Model(name="tiny")])
    assert (await client.get(ID)).id == ID
    assert [image.url for image in await client.sign_image_urls(ID, lifetime_seconds=60)] == ["http://127.0.0.1/0"]
    assert server.requests[-1].lifetime.seconds == 60  # type: ignore[attr-defined]
    assert [model.name for model in await client.list_models()] == ["tiny"]


def test_every_call_but_the_streams_may_be_repeated() -> None:
    services = [generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]]
    services.append(model_service_pb2.DESCRIPTOR.services_by_name["ModelService"])
    unary = {
        service.full_name: {method.name for method in service.methods if not method.server_streaming}
        for service in services
    }
    assert {service: set(methods) for service, methods in REPEATABLE.items()} == unary


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_call_has_a_deadline(call: Callable[[Client], Awaitable[object]]) -> None:
    async with ScriptedServer() as server, Client(server.target, call_seconds=0.2) as client:
        server.hang = True
        with pytest.raises(DeadlineExceeded):
            await call(client)


async def test_a_batch_keeps_its_order_and_its_request_ids(client: Client, server: ScriptedServer) -> None:
    specs = [GenerationSpec(prompt="a castle"), GenerationSpec(prompt="a moat")]
    accepted = await client.batch_create(specs, request_ids=["first", "second"])
    assert [generation.resolved_spec for generation in accepted] == specs
    request: Any = server.requests[-1]
    assert [(each.request_id, each.spec) for each in request.requests] == [("first", specs[0]), ("second", specs[1])]


async def test_a_batch_makes_a_request_id_for_each_spec(client: Client, server: ScriptedServer) -> None:
    await client.batch_create(SPEC for _ in range(3))
    request: Any = server.requests[-1]
    assert len({each.request_id for each in request.requests}) == 3


async def test_a_batch_with_too_few_request_ids_is_not_sent(client: Client, server: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="shorter"):
        await client.batch_create([SPEC, SPEC], request_ids=["first"])
    assert server.requests == []


def pages(*sizes: int) -> list[ListGenerationsResponse]:
    """Make pages of so many generations, each of which names the next one by its number."""
    counted = itertools.count()
    made = [
        ListGenerationsResponse(generations=[Generation(id=str(next(counted))) for _ in range(size)]) for size in sizes
    ]
    for number, page in enumerate(made[:-1], start=1):
        page.next_page_token = str(number)
    return made


async def test_a_list_goes_on_from_page_to_page(client: Client, server: ScriptedServer) -> None:
    server.pages = pages(2, 0, 1)
    listed = [generation.id async for generation in client.list(page_size=2, models=["tiny"])]
    assert listed == ["0", "1", "2"]
    requests: Any = server.requests
    assert [request.page_token for request in requests] == ["", "1", "2"]
    assert all((request.page_size, list(request.models)) == (2, ["tiny"]) for request in requests)


async def test_a_list_fetches_no_page_before_it_is_needed(client: Client, server: ScriptedServer) -> None:
    server.pages = pages(2, 1)
    async with aclosing(client.list()) as listed:
        assert [(await anext(listed)).id, (await anext(listed)).id] == ["0", "1"]
        assert len(server.requests) == 1


async def test_a_single_page(client: Client, server: ScriptedServer) -> None:
    server.pages = pages(2, 1)
    page = await client.list_page(page_size=2)
    assert ([generation.id for generation in page.generations], page.next_page_token) == (["0", "1"], "1")
    page = await client.list_page(page_token=page.next_page_token)
    assert ([generation.id for generation in page.generations], page.next_page_token) == (["2"], "")


async def test_every_filter_reaches_the_service(client: Client, server: ScriptedServer) -> None:
    noon = datetime(2026, 1, 2, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    await client.list_page(
        states=[FAILED, QUEUED],
        models=["tiny"],
        failure_reasons=[FailureReason.FAILURE_REASON_STORAGE],
        labels={"team": "web"},
        created_after=noon,
        created_before=noon + timedelta(microseconds=1),
    )
    request: Any = server.requests[-1]
    expected = ListGenerationsRequest(
        states=[FAILED, QUEUED],
        models=["tiny"],
        failure_reasons=[FailureReason.FAILURE_REASON_STORAGE],
        labels={"team": "web"},
    )
    expected.created_after.FromJsonString("2026-01-02T10:00:00Z")
    expected.created_before.FromJsonString("2026-01-02T10:00:00.000001Z")
    assert request == expected


@pytest.mark.parametrize("name", ["created_after", "created_before"])
async def test_a_time_without_a_zone_is_refused(client: Client, server: ScriptedServer, name: str) -> None:
    filters: Any = {name: datetime(2026, 1, 2)}  # noqa: DTZ001
    with pytest.raises(ValueError, match=f"{name} has no time zone"):
        await client.list_page(**filters)
    assert server.requests == []


async def test_attempts_come_in_order_page_by_page(client: Client, server: ScriptedServer) -> None:
    server.attempts = [
        ListAttemptsResponse(attempts=[Attempt(number=1), Attempt(number=2)], next_page_token="1"),
        ListAttemptsResponse(attempts=[Attempt(number=3)]),
    ]
    assert [attempt.number async for attempt in client.list_attempts(ID, page_size=2)] == [1, 2, 3]
    requests: Any = server.requests
    assert [(request.id, request.page_size, request.page_token) for request in requests] == [(ID, 2, ""), (ID, 2, "1")]


@pytest.mark.parametrize("immediately", [True, False])
async def test_delete(client: Client, server: ScriptedServer, immediately: bool) -> None:
    await client.delete(ID, immediately=immediately)
    request: Any = server.requests[-1]
    assert (request.id, request.immediately) == (ID, immediately)


async def test_retry_makes_a_request_id_of_its_own_unless_it_is_given_one(
    client: Client, server: ScriptedServer
) -> None:
    assert (await client.retry(ID)).id == ID
    await client.retry(ID, request_id="mine")
    first, second = server.requests
    assert len(first.request_id) == 32  # type: ignore[attr-defined]
    assert (second.id, second.request_id) == (ID, "mine")  # type: ignore[attr-defined]


async def test_one_model(client: Client, server: ScriptedServer) -> None:
    assert (await client.get_model("tiny")).name == "tiny"
    assert server.requests[-1].name == "tiny"  # type: ignore[attr-defined]


REFUSALS = {
    ("GENERATION_NOT_FINAL", grpc.StatusCode.FAILED_PRECONDITION): NotFinal,
    ("GENERATION_NOT_SUCCEEDED", grpc.StatusCode.FAILED_PRECONDITION): NotSucceeded,
    ("GENERATION_DELETED", grpc.StatusCode.ALREADY_EXISTS): Deleted,
    ("MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND): ModelNotFound,
    ("GENERATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND): NotFound,
}


@pytest.mark.parametrize(("refusal", "expected"), REFUSALS.items(), ids=[reason for reason, _ in REFUSALS])
async def test_a_reason_makes_an_error_of_its_own(
    client: Client, server: ScriptedServer, refusal: tuple[str, grpc.StatusCode], expected: type[EaselError]
) -> None:
    reason, code = refusal
    server.unary_errors.append(status(code, "no", error_info(f"ERROR_REASON_{reason}", state="RUNNING", id=ID)))
    with pytest.raises(expected) as raised:
        await client.delete(ID)
    assert type(raised.value) is expected
    if isinstance(raised.value, FailedPrecondition):
        assert raised.value.state == "RUNNING"
    if isinstance(raised.value, Conflict):
        assert raised.value.generation_id == ID


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(Unavailable, match="not open"):
        await Client("127.0.0.1:1").get(ID)

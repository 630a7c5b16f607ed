import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from easel.client import (
    Client,
    DeadlineExceeded,
    Defect,
    EaselError,
    Event,
    Exhausted,
    GenerationSpec,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from easel.client.channel import is_loopback
from easel.v1.generation_pb2 import Phase
from tests.unit.easel.scripted import (
    FAILED,
    ID,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Relay,
    Script,
    ScriptedServer,
    bad_request,
    error_info,
    preview,
    progress,
    retry_info,
    says,
    status,
    transition,
)

SPEC = GenerationSpec(prompt="a castle", steps=20)

queued = transition(QUEUED, revision=1)
running = transition(RUNNING, revision=2, attempts=1)
succeeded = transition(SUCCEEDED, revision=3, attempts=1)

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "going away")


async def draw(server: ScriptedServer, *, patience_seconds: float = 30.0, **how: Any) -> list[Event]:
    async with Client(server.target, patience_seconds=patience_seconds) as client:
        return [event async for event in client.generate(SPEC, **how)]


def seen(events: list[Event]) -> list[str | int]:
    """Name what a watcher saw: revisions as `r1`, steps as numbers."""
    return [f"r{event.generation.revision}" if event.progress is None else event.progress.step for event in events]


async def test_an_unbroken_stream_is_passed_on_as_it_is() -> None:
    async with ScriptedServer(says(queued, running, progress(1), progress(2), succeeded)) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", 1, 2, "r3"]
    assert [event.is_final for event in events] == [False, False, False, False, True]
    assert events[3].generation.state == RUNNING
    assert events[3].resume_token == "a1s2"


async def test_a_finished_stream_counts_as_completed_at_the_server() -> None:
    async with ScriptedServer(says(queued, succeeded)) as server:
        await draw(server)
        await server.ended.wait()
    assert server.endings == ["ok"]


async def test_who_leaves_after_the_last_event_has_not_cancelled_the_call() -> None:
    async def script(_: Any) -> AsyncIterator[Any]:
        yield succeeded
        closing = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, closing.set)
        await closing.wait()

    async with ScriptedServer(script) as server, Client(server.target) as client:
        async for event in client.generate(SPEC):
            if event.is_final:
                break
        await server.ended.wait()
    assert server.endings == ["ok"]


BREAKS = {
    "replica shuts down": UNAVAILABLE,
    "with retry info": status(grpc.StatusCode.UNAVAILABLE, "shutting down", retry_info(0.01)),
    "turned away": (grpc.StatusCode.CANCELLED, "too many calls"),
    "reset": (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
    "removed": (grpc.StatusCode.UNKNOWN, "Stream removed"),
    "ended with OK but without a final state": None,
}


@pytest.mark.parametrize("how", BREAKS.values(), ids=BREAKS.keys())
async def test_a_broken_stream_is_resumed_from_its_last_token(how: Any) -> None:
    first = says(queued, running, progress(1), then=how)
    async with ScriptedServer(first, says(running, progress(2), succeeded)) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", 1, 2, "r3"]
    _, watch = server.requests
    assert (watch.id, watch.resume_token) == (ID, "a1s1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", BREAKS.values(), ids=BREAKS.keys())
async def test_broken_before_the_first_message_it_generates_again_with_the_same_request_id(how: Any) -> None:
    async with ScriptedServer(says(then=how), says(queued, succeeded)) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r3"]
    first, second = server.requests
    assert first == second
    assert len(first.request_id) == 32  # type: ignore[attr-defined]


async def test_it_keeps_the_request_id_it_is_given() -> None:
    async with ScriptedServer(says(succeeded)) as server:
        await draw(server, request_id="mine")
    assert server.requests[0].request_id == "mine"  # type: ignore[attr-defined]


async def test_what_a_resumed_stream_repeats_is_not_seen_twice_and_progress_never_goes_back() -> None:
    first = says(queued, running, progress(4), progress(5), then=UNAVAILABLE)
    second = says(running, progress(3), progress(5), progress(6), running, succeeded, succeeded)
    async with ScriptedServer(first, second) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", 4, 5, 5, 6, "r3"]


async def test_a_new_attempt_starts_again_and_the_lost_one_is_not_heard_of_any_more() -> None:
    script = says(
        queued,
        running,
        progress(5),
        preview(attempt=1),
        transition(QUEUED, revision=3, attempts=1),
        progress(6),
        progress(0, attempt=1, phase=Phase.PHASE_UNSPECIFIED, queue_position=1),
        preview(attempt=1),
        transition(RUNNING, revision=4, attempts=2),
        progress(7),
        progress(0, attempt=0, phase=Phase.PHASE_UNSPECIFIED, queue_position=0),
        progress(1, attempt=2),
        transition(SUCCEEDED, revision=5, attempts=2),
    )
    async with ScriptedServer(script) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", 5, "r2", "r3", 0, "r4", 1, "r5"]
    assert [event.preview is not None for event in events].count(True) == 1


async def test_a_service_that_was_restored_from_a_backup_is_followed_to_the_end() -> None:
    lost = transition(QUEUED, revision=3, attempts=1)
    again = transition(RUNNING, revision=4, attempts=2)
    first = says(queued, running, lost, again, progress(5, attempt=2), then=UNAVAILABLE)
    waits = progress(0, attempt=0, phase=Phase.PHASE_UNSPECIFIED, queue_position=1)
    second = says(queued, waits, running, progress(1), succeeded)
    async with ScriptedServer(first, second) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", "r3", "r4", 5, "r1", 0, "r2", 1, "r3"]


async def test_a_service_that_was_restored_and_has_come_as_far_another_way_is_followed_to_the_end() -> None:
    first = says(queued, running, transition(QUEUED, revision=3, attempts=1), then=UNAVAILABLE)
    async with ScriptedServer(first, says(succeeded)) as server:
        events = await draw(server)
    assert [(event.generation.revision, event.generation.state) for event in events[-2:]] == [
        (3, QUEUED),
        (3, SUCCEEDED),
    ]


async def test_it_breaks_again_and_again_and_still_sees_everything_once() -> None:
    scripts: list[Script] = [says(queued, then=UNAVAILABLE), says(queued, running, then=UNAVAILABLE)]
    scripts += [says(running, progress(step), then=UNAVAILABLE) for step in range(1, 6)]
    async with ScriptedServer(*scripts, says(succeeded)) as server:
        events = await draw(server)
    assert seen(events) == ["r1", "r2", 1, 2, 3, 4, 5, "r3"]


async def test_a_server_that_stops_and_starts_again_goes_unnoticed() -> None:
    scripts = (says(queued, running, progress(1), hang=True), says(succeeded))
    async with ScriptedServer(*scripts) as server, Client(server.target) as client:
        events = []
        async for event in client.generate(SPEC):
            events.append(event)
            if event.progress:
                await server.stop()
                await server.start()
    assert seen(events) == ["r1", "r2", 1, "r3"]


async def test_a_connection_that_is_cut_goes_unnoticed() -> None:
    async with (
        ScriptedServer(says(queued, running, progress(1), hang=True), says(running, succeeded)) as server,
        Relay(server.port) as relay,
        Client(f"127.0.0.1:{relay.port}") as client,
    ):
        events = []
        async for event in client.generate(SPEC):
            events.append(event)
            if event.progress:
                relay.cut()
    assert seen(events) == ["r1", "r2", 1, "r3"]


async def test_all_gateways_behind_one_target_get_their_share() -> None:
    async with (
        ScriptedServer() as one,
        ScriptedServer() as other,
        Client(f"ipv4:127.0.0.1:{one.port},127.0.0.1:{other.port}") as client,
    ):
        one.play = other.play = lambda _request: says(succeeded)
        while not (one.requests and other.requests):
            assert seen([event async for event in client.generate(SPEC)]) == ["r3"]


async def test_those_who_want_to_know_are_told_of_each_break_and_of_its_end() -> None:
    told: list[EaselError | None] = []
    async with ScriptedServer(says(queued, then=UNAVAILABLE), says(then=UNAVAILABLE), says(succeeded)) as server:
        await draw(server, on_outage=told.append)
    assert [str(each) for each in told] == ["going away", "going away", "None"]


async def test_it_waits_as_long_as_the_server_asks_for() -> None:
    later = status(grpc.StatusCode.UNAVAILABLE, "the database is away", retry_info(0.4))
    async with ScriptedServer(says(then=later), says(succeeded)) as server:
        began = asyncio.get_running_loop().time()
        await draw(server)
        assert asyncio.get_running_loop().time() - began >= 0.4


async def test_patience_ends() -> None:
    scripts = [says(queued, then=UNAVAILABLE), *(says(then=UNAVAILABLE) for _ in range(100))]
    async with ScriptedServer(*scripts) as server:
        with pytest.raises(Unavailable, match="going away"):
            await draw(server, patience_seconds=0.3)
    assert len(server.requests) > 1


async def test_a_message_restores_patience() -> None:
    slow = status(grpc.StatusCode.UNAVAILABLE, "away", retry_info(0.2))
    scripts = [says(queued, progress(0, attempt=0, phase=Phase.PHASE_UNSPECIFIED), then=slow) for _ in range(4)]
    async with ScriptedServer(*scripts, says(succeeded)) as server:
        events = await draw(server, patience_seconds=0.5)
    assert events[-1].is_final


async def test_nobody_there() -> None:
    async with ScriptedServer() as server:
        await server.stop()
        with pytest.raises(Unavailable):
            await draw(server, patience_seconds=0.3)


async def test_a_deadline_ends_a_quiet_stream() -> None:
    async with ScriptedServer(says(queued, hang=True)) as server:
        with pytest.raises(DeadlineExceeded):
            await draw(server, deadline_seconds=0.3)


async def test_a_deadline_ends_the_waiting_too() -> None:
    away = status(grpc.StatusCode.UNAVAILABLE, "away", retry_info(60))
    async with ScriptedServer(says(queued, then=away)) as server:
        with pytest.raises(DeadlineExceeded):
            await draw(server, deadline_seconds=0.3)


async def test_a_refusal_is_raised_at_once_and_names_every_field() -> None:
    refusal = status(
        grpc.StatusCode.INVALID_ARGUMENT,
        "2 fields are wrong",
        bad_request(spec__steps="must be 1 to 150", spec__width="must be a multiple of 8"),
        error_info("ERROR_REASON_INVALID_REQUEST"),
    )
    async with ScriptedServer(says(then=refusal)) as server:
        with pytest.raises(InvalidRequest) as raised:
            await draw(server)
    assert str(raised.value) == "spec.steps: must be 1 to 150; spec.width: must be a multiple of 8"
    assert [violation.field for violation in raised.value.violations] == ["spec.steps", "spec.width"]
    assert raised.value.reason == "ERROR_REASON_INVALID_REQUEST"


async def test_a_defect_of_the_service_is_not_taken_for_a_broken_connection() -> None:
    defect = status(grpc.StatusCode.INTERNAL, "RST_STREAM in the wrong place", error_info("ERROR_REASON_INTERNAL"))
    async with ScriptedServer(says(queued, then=defect)) as server:
        with pytest.raises(Defect):
            await draw(server)
    assert len(server.requests) == 1


async def test_a_full_backlog_is_not_waited_for_but_says_when() -> None:
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_info(7), error_info("ERROR_REASON_BACKLOG_FULL"))
    async with ScriptedServer(says(then=full)) as server:
        with pytest.raises(Exhausted) as raised:
            await draw(server)
    assert raised.value.retry_after_seconds == 7


async def test_a_failed_generation_is_a_result_and_no_error() -> None:
    async with ScriptedServer(says(queued, transition(FAILED, revision=2))) as server:
        events = await draw(server)
    assert events[-1].generation.state == FAILED


async def test_leaving_the_iteration_ends_the_call() -> None:
    async with ScriptedServer(says(queued, hang=True)) as server, Client(server.target) as client:
        async with aclosing(client.generate(SPEC)) as events:
            async for _ in events:
                break
        await server.ended.wait()
    assert server.endings == ["cancelled"]


async def test_cancelling_the_task_is_not_taken_for_a_break() -> None:
    async with ScriptedServer(says(queued, hang=True)) as server, Client(server.target) as client:
        arrived = asyncio.Event()

        async def watch() -> None:
            async for _ in client.generate(SPEC):
                arrived.set()

        task = asyncio.create_task(watch())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended.wait()
    assert len(server.requests) == 1


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "generate": lambda client: anext(client.generate(SPEC)),
    "watch": lambda client: anext(client.watch(ID)),
    "get": lambda client: client.get(ID),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_closing_under_a_call_is_an_error_and_no_cancellation(
    call: Callable[[Client], Awaitable[object]],
) -> None:
    async with ScriptedServer(says(hang=True)) as server, Client(server.target) as client:
        server.hang = True
        task = asyncio.ensure_future(call(client))
        await server.called.wait()
        await client.close()
        with pytest.raises(Unavailable, match="the client was closed"):
            await task


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_cancellation_stays_one_though_the_client_is_closed_as_well(
    call: Callable[[Client], Awaitable[object]],
) -> None:
    async with ScriptedServer(says(hang=True)) as server, Client(server.target) as client:
        server.hang = True
        task = asyncio.ensure_future(call(client))
        await server.called.wait()
        task.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_between_two_events() -> None:
    async with ScriptedServer(says(queued, hang=True)) as server, Client(server.target) as client:
        events = client.generate(SPEC)
        await anext(events)
        await client.close()
        with pytest.raises(Unavailable, match="the client was closed"):
            await anext(events)


async def test_closing_while_it_waits_to_go_on() -> None:
    async with ScriptedServer(says(queued, then=UNAVAILABLE)) as server, Client(server.target) as client:
        broken = asyncio.Event()
        events = client.generate(SPEC, on_outage=lambda _: broken.set())
        await anext(events)
        going_on = asyncio.ensure_future(anext(events))
        await broken.wait()
        await client.close()
        with pytest.raises(Unavailable, match="the client was closed"):
            await going_on


async def test_a_client_is_open_once_at_a_time() -> None:
    async with ScriptedServer(says(succeeded)) as server:
        client = Client(server.target)
        with pytest.raises(Unavailable, match="not open"):
            await client.get(ID)
        async with client:
            with pytest.raises(RuntimeError, match="open already"):
                await client.__aenter__()
            await client.get(ID)
        with pytest.raises(Unavailable, match="the client was closed"):
            await client.get(ID)
        async with client:
            await client.get(ID)


async def test_watch_goes_on_from_a_token() -> None:
    scripts = (says(running, then=UNAVAILABLE), says(running, succeeded))
    async with ScriptedServer(*scripts) as server, Client(server.target) as client:
        events = [event async for event in client.watch(ID, resume_token="earlier")]
    assert seen(events) == ["r2", "r3"]
    assert [request.resume_token for request in server.requests] == ["earlier", "r2"]  # type: ignore[attr-defined]


async def test_watching_nothing() -> None:
    missing = status(grpc.StatusCode.NOT_FOUND, "no such generation", error_info("ERROR_REASON_GENERATION_NOT_FOUND"))
    async with ScriptedServer(says(then=missing)) as server, Client(server.target) as client:
        with pytest.raises(NotFound):
            [event async for event in client.watch(ID)]


async def test_previews_come_in_order_and_once_for_each_picture() -> None:
    script = says(
        queued,
        running,
        preview(step=5),
        preview(step=5, image_index=1),
        preview(step=5),
        preview(step=4, image_index=1),
        preview(step=10),
        preview(attempt=2, step=5),
        preview(step=15),
        progress(9),
        progress(1, attempt=2),
        succeeded,
        preview(attempt=2, step=20),
    )
    async with ScriptedServer(script) as server:
        events = await draw(server)
    previews = [event.preview for event in events if event.preview is not None]
    assert [(each.attempt, each.image_index, each.step) for each in previews] == [
        (1, 0, 5),
        (1, 1, 5),
        (1, 0, 10),
        (2, 0, 5),
    ]
    assert [event.progress.step for event in events if event.progress is not None] == [1]
    assert not any(event.is_transition for event in events if event.preview is not None)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("http://127.0.0.1:9000/easel/0.png", True),
        ("easel.example.org:443", False),
        ("dns:///easel.example.org", False),
        ("10.0.0.1:50051", False),
    ],
)
def test_loopback(target: str, expected: bool) -> None:
    assert is_loopback(target) is expected

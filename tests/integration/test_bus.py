"""The connection to NATS, against a real server that goes away and comes back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from easel.bus import Bus, BusUnavailable
from easel.embedded.folder import DataFolder
from easel.embedded.nats import Nats
from easel.embedded.ports import PortBlock
from easel.worker.v1.claim_pb2 import ClaimAnswer, ClaimRequest, ClaimResponse

STREAM = "TEST"

PATIENCE_SECONDS = 20.0

GRANTED = ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_GRANTED)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[Nats]:
    folder, ports = DataFolder(tmp_path / "nats"), PortBlock.claim()
    folder.hold()
    server = Nats(folder=folder, port=ports.take())
    await server.start()
    yield server
    await server.stop()
    ports.release()
    folder.release()


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    bus = Bus()
    await bus.connect(nats.url("operator"), name="test")
    yield bus
    await bus.close()


@pytest.fixture
def reconnected(bus: Bus) -> asyncio.Event:
    event = asyncio.Event()
    bus.on_connect(event.set)
    return event


async def make_stream(bus: Bus) -> None:
    await bus.jetstream.add_stream(StreamConfig(name=STREAM, subjects=["test.>"], max_msgs_per_subject=1))


def claim(claim_id: str) -> ClaimRequest:
    return ClaimRequest(claim_id=claim_id)


async def listen(bus: Bus, subject: str) -> asyncio.Queue[ClaimRequest]:
    arrived: asyncio.Queue[ClaimRequest] = asyncio.Queue()

    async def gather(message: Msg) -> None:
        arrived.put_nowait(ClaimRequest.FromString(message.data))

    await bus.subscribe(subject, gather)
    return arrived


async def test_an_answer_comes_back(bus: Bus) -> None:
    async def answer(message: Msg) -> None:
        assert ClaimRequest.FromString(message.data) == claim("c1")
        await message.respond(GRANTED.SerializeToString())

    await bus.subscribe("ask", answer)
    assert await bus.request("ask", claim("c1"), ClaimResponse) == GRANTED


async def test_a_question_that_nobody_hears(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match="no answer on ask"):
        await bus.request("ask", claim("c1"), ClaimResponse)


async def test_a_question_that_is_left_unanswered(bus: Bus) -> None:
    await listen(bus, "ask")
    with pytest.raises(BusUnavailable, match="no answer on ask"):
        await bus.request("ask", claim("c1"), ClaimResponse, timeout_seconds=0.05)


async def test_an_answer_that_cannot_be_read_is_no_answer(bus: Bus) -> None:
    async def mumble(message: Msg) -> None:
        await message.respond(b"\xff no message")

    await bus.subscribe("test.claim", mumble)
    with pytest.raises(BusUnavailable, match="no answer"):
        await bus.request("test.claim", claim("1"), ClaimResponse)


async def test_a_cancellation_that_comes_together_with_the_answer_is_one(bus: Bus) -> None:
    """Such as that of whoever asks again and again, who would go on for ever."""
    await make_stream(bus)
    publishing = asyncio.create_task(bus.publish("test.1", claim("1")))
    waiting = bus._client._resp_map  # the only place to learn of an answer before whoever waits for it does
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not waiting:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0)
    (answer,) = waiting.values()
    answer.add_done_callback(lambda _: publishing.cancel())
    with pytest.raises(asyncio.CancelledError):
        await publishing


async def test_publishing_without_a_stream_is_no_success(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match="not stored on test"):
        await bus.publish("test.a", claim("c1"))


async def test_the_last_message_of_a_subject_is_remembered(bus: Bus) -> None:
    await make_stream(bus)
    await bus.jetstream.update_stream(
        StreamConfig(name=STREAM, subjects=["test.>"], max_msgs_per_subject=1, allow_direct=True)
    )
    await bus.publish("test.a", claim("c1"))
    await bus.publish("test.a", claim("c2"))
    assert await bus.last(STREAM, "test.a", ClaimRequest) == claim("c2")
    assert await bus.last(STREAM, "test.b", ClaimRequest) is None


async def test_a_message_id_makes_the_second_publish_a_duplicate(bus: Bus) -> None:
    await make_stream(bus)
    for number in range(2):
        await bus.publish(f"test.{number}", claim("c1"), message_id="same")
    assert (await bus.jetstream.stream_info(STREAM)).state.messages == 1


async def test_while_the_server_is_away_everything_fails_and_nothing_comes_later(
    bus: Bus, nats: Nats, reconnected: asyncio.Event
) -> None:
    await make_stream(bus)
    arrived = await listen(bus, "news")
    nats.kill()
    with pytest.raises(BusUnavailable):
        await bus.publish("test.a", claim("lost"))
    with pytest.raises(BusUnavailable):
        await bus.request("ask", claim("lost"), ClaimResponse, timeout_seconds=0.5)
    await bus.tell("news", claim("lost"))
    assert bus.connected_seconds == 0

    await nats.start()
    await reconnected.wait()
    await bus.tell("news", claim("found"))
    await bus.publish("test.b", claim("found"))
    # The server keeps the order of a connection: what had been buffered would have come before.
    assert await arrived.get() == claim("found")
    assert (await bus.jetstream.stream_info(STREAM)).state.messages == 1
    assert bus.connected_seconds > 0


async def test_it_connects_as_soon_as_there_is_a_server(nats: Nats) -> None:
    await nats.stop()
    bus = Bus()
    connecting = asyncio.create_task(bus.connect(nats.url("operator"), name="early"))
    await asyncio.wait([connecting], timeout=0.3)
    assert not connecting.done()
    await nats.start()
    await connecting
    assert bus.connected_seconds > 0
    await bus.close()


async def test_who_stops_listening_hears_no_more_but_still_speaks(bus: Bus) -> None:
    arrived = await listen(bus, "news")
    await bus.stop_listening()
    with pytest.raises(BusUnavailable):
        await bus.request("news", claim("c1"), ClaimResponse, timeout_seconds=0.5)
    assert arrived.empty()


async def test_an_error_of_the_server_that_closes_the_client_is_survived(bus: Bus, reconnected: asyncio.Event) -> None:
    arrived = await listen(bus, "test.claim")
    await bus._client._process_err("'user authentication expired'")
    await asyncio.wait_for(reconnected.wait(), PATIENCE_SECONDS)
    await bus.tell("test.claim", claim("1"))
    assert await asyncio.wait_for(arrived.get(), PATIENCE_SECONDS) == claim("1")
    await make_stream(bus)


async def test_requests_without_a_connection_leave_no_trace(bus: Bus, nats: Nats) -> None:
    with pytest.raises(BusUnavailable):
        await bus.request("nobody", claim("1"), ClaimResponse)
    await nats.stop()
    traces = len(bus._client._resp_map)
    for _ in range(10):
        with pytest.raises(BusUnavailable):
            await bus.request("nobody", claim("1"), ClaimResponse)
        with pytest.raises(BusUnavailable):
            await bus.publish("test.1", claim("1"))
    assert len(bus._client._resp_map) == traces


async def test_closing_while_the_server_is_away_does_no_harm(bus: Bus, nats: Nats) -> None:
    nats.kill()
    await bus.close()
    assert bus.connected_seconds == 0

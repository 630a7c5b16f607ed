"""What NATS lets the two services do, and what it does not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from easel import subjects
from easel.bus import address_of
from easel.embedded import Servers
from easel.embedded.nats import User

PATIENCE_SECONDS = 10.0
ID = "0198-of-somebody"

Connect = Callable[[User], Awaitable["Somebody"]]


class Somebody:
    """A client, with what the server refused it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: list[str] = []

    async def connect(self, url: str) -> None:
        await self.client.connect(**address_of(url, ca_file=""), error_cb=self._on_error)

    async def _on_error(self, error: Exception) -> None:
        self.refused.append(str(error))

    async def settle(self) -> None:
        """Wait until the server has judged all that was sent so far."""
        # Its errors come before its answer, and are handed over by tasks of their own, which are done by the next one.
        for _ in range(2):
            await self.client.flush(timeout=int(PATIENCE_SECONDS))

    async def may_publish(self, subject: str) -> bool:
        before = len(self.refused)
        await self.client.publish(subject, b"")
        await self.settle()
        return len(self.refused) == before

    async def may_subscribe(self, subject: str) -> bool:
        before = len(self.refused)
        subscription = await self.client.subscribe(subject)
        await self.settle()
        if len(self.refused) > before:
            return False
        await subscription.unsubscribe()
        return True


@pytest.fixture
async def connect(servers: Servers) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def connect(user: User) -> Somebody:
            somebody = Somebody()
            await somebody.connect(servers.nats.url(user))
            stack.push_async_callback(somebody.client.close)
            return somebody

        yield connect


@pytest.mark.parametrize(
    "subject",
    [
        # What gateways tell, and hand out.
        subjects.NUDGE,
        subjects.CANCEL,
        subjects.task("m", ID),
        # What makes and unmakes streams, and reads what is in them.
        f"$JS.API.STREAM.CREATE.{subjects.TASKS_STREAM}",
        f"$JS.API.STREAM.DELETE.{subjects.RESULTS_STREAM}",
        f"$JS.API.STREAM.PURGE.{subjects.TASKS_STREAM}",
        f"$JS.API.STREAM.MSG.GET.{subjects.RESULTS_STREAM}",
        f"$JS.API.STREAM.MSG.DELETE.{subjects.TASKS_STREAM}",
        f"$JS.API.CONSUMER.CREATE.{subjects.RESULTS_STREAM}.spy",
        f"$JS.API.CONSUMER.MSG.NEXT.{subjects.RESULTS_STREAM}.{subjects.PROJECTION_CONSUMER}",
        f"$JS.ACK.{subjects.RESULTS_STREAM}.{subjects.PROJECTION_CONSUMER}.1.1.1.1.0",
        # Answers to what others asked.
        "_INBOX_gateway.abc.def",
        "_INBOX_worker.abc.def",
        "elsewhere",
    ],
)
async def test_a_worker_says_nothing_that_is_not_its_to_say(connect: Connect, subject: str) -> None:
    assert not await (await connect("worker")).may_publish(subject)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.CLAIM,
        subjects.NUDGE,
        subjects.ALL_RESULTS,
        subjects.ALL_PROGRESS,
        subjects.ALL_TASKS,
        "easel.>",
        "$JS.>",
        "_INBOX.>",
        "_INBOX_gateway.>",
        ">",
    ],
)
async def test_a_worker_hears_nothing_of_others(connect: Connect, subject: str) -> None:
    assert not await (await connect("worker")).may_subscribe(subject)


@pytest.mark.parametrize("subject", ["_INBOX.>", "_INBOX_worker.>", ">", "$SYS.>", "elsewhere"])
async def test_a_gateway_hears_what_is_said_to_easel_and_to_itself(connect: Connect, subject: str) -> None:
    gateway = await connect("gateway")
    assert await gateway.may_subscribe("easel.>")
    assert not await gateway.may_subscribe(subject)


@pytest.mark.parametrize("subject", ["_INBOX_worker.abc.def", "elsewhere", "$SYS.REQ.SERVER.PING"])
async def test_a_gateway_says_nothing_to_who_did_not_ask(connect: Connect, subject: str) -> None:
    gateway = await connect("gateway")
    assert await gateway.may_publish(subjects.NUDGE)
    assert not await gateway.may_publish(subject)


async def test_a_gateway_answers_who_asks(connect: Connect) -> None:
    gateway, worker = await connect("gateway"), await connect("worker")

    async def answer(message: Msg) -> None:
        await message.respond(b"yes")

    await gateway.client.subscribe(subjects.CLAIM, cb=answer)
    await gateway.settle()
    response = await worker.client.request(subjects.CLAIM, b"may I?", timeout=PATIENCE_SECONDS)
    assert response.data == b"yes"
    assert gateway.refused == worker.refused == []


async def test_a_worker_can_say_what_it_drew_and_take_hints(connect: Connect) -> None:
    gateway, worker = await connect("gateway"), await connect("worker")
    streams: Any = gateway.client.jetstream()
    for stream in (subjects.TASKS_STREAM, subjects.RESULTS_STREAM):
        # Of other tests.
        with suppress(nats.js.errors.NotFoundError):
            await streams.delete_stream(stream)
    try:
        await streams.add_stream(StreamConfig(name=subjects.TASKS_STREAM, subjects=[subjects.ALL_TASKS]))
        await streams.add_stream(StreamConfig(name=subjects.RESULTS_STREAM, subjects=[subjects.ALL_RESULTS]))
        await streams.add_consumer(subjects.TASKS_STREAM, durable_name="workers-m", ack_policy="explicit")
        await streams.publish(subjects.task("m", ID), b"a hint")
        drawing: Any = worker.client.jetstream()
        hints = await drawing.pull_subscribe_bind("workers-m", stream=subjects.TASKS_STREAM)
        (hint,) = await hints.fetch(1, timeout=PATIENCE_SECONDS)
        await hint.ack_sync()
        await drawing.publish(subjects.result(ID), b"a result")
        await drawing.stream_info(subjects.RESULTS_STREAM)
        assert worker.refused == gateway.refused == []
        assert (await streams.consumer_info(subjects.TASKS_STREAM, "workers-m")).ack_floor.stream_seq == 1
        assert (await streams.stream_info(subjects.RESULTS_STREAM)).state.messages == 1
    finally:
        for stream in (subjects.TASKS_STREAM, subjects.RESULTS_STREAM):
            await streams.delete_stream(stream)


def test_inboxes_are_told_apart_by_their_users() -> None:
    def prefix(url: str) -> object:
        return address_of(url, ca_file="")["inbox_prefix"]

    assert prefix("nats://worker:pw@a:4222,nats://worker:pw@b:4222") == "_INBOX_worker"
    assert prefix("nats://a:4222") == "_INBOX"
    # A token, which is a secret.
    assert prefix("nats://s3cr3t@a:4222") == "_INBOX"
    # Such a name cannot stand in a subject.
    assert prefix("nats://some.body:pw@a:4222") == "_INBOX"

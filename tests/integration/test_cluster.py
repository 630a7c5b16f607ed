"""Streams on three servers of a NATS cluster: the loss of one is no outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import nats.errors
import nats.js.errors
import pytest

from easel import subjects
from easel.bus import Bus, BusUnavailable
from easel.embedded.folder import DataFolder
from easel.embedded.nats import Nats
from easel.embedded.ports import HOST, PortBlock
from easel.worker.v1.task_pb2 import CancelNotice
from gateway.topology import Topology
from tests.faults.clients import until

SERVERS = 3
#: Within it, a cluster has chosen who leads: it votes for up to 9 seconds, and again where nobody won.
CHOICE_SECONDS = 60.0


class Member(Nats):
    """One server of a cluster, with the same users as the others."""

    name_of_it: str
    route_port: int
    routes: tuple[int, ...]

    def _configuration(self) -> dict[str, object]:
        routes = [f"nats://{HOST}:{port}" for port in self.routes]
        cluster = {"name": "easel", "host": HOST, "port": self.route_port, "routes": routes}
        self._server_name = self.name_of_it
        # Who they are is one and the same wherever they ask.
        self._passwords = dict.fromkeys(self._passwords, "a-password")
        return {**super()._configuration(), "cluster": cluster}


class Catalogue:
    """Knows one model."""

    models = ("m",)


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Member]]:
    block = PortBlock.claim()
    members, folders = [], []
    routes = tuple(block.take() for _ in range(SERVERS))
    for number in range(SERVERS):
        folder = DataFolder(tmp_path_factory.mktemp(f"nats-{number}"))
        folder.hold()
        member = Member(folder=folder, port=block.take())
        member.name_of_it, member.route_port, member.routes = f"n{number}", routes[number], routes
        folders.append(folder)
        members.append(member)
    try:
        await asyncio.gather(*(member.start() for member in members))
        yield members
    finally:
        for member, folder in zip(members, folders, strict=True):
            member.kill()
            folder.release()
        block.release()


@pytest.fixture
async def bus(cluster: list[Member]) -> AsyncIterator[Bus]:
    bus = Bus()
    await bus.connect(",".join(member.url("gateway") for member in cluster), name="test")
    yield bus
    await bus.close()


async def make_streams(bus: Bus, *, replicas: int) -> None:
    topology = Topology(bus, Catalogue(), replicas=replicas, result_ack_wait_seconds=10)  # type: ignore[arg-type]

    async def are_made() -> bool:
        # A cluster takes its time to choose who leads.
        with suppress(BusUnavailable):
            await topology.ensure()
            return True
        return False

    await until(are_made, seconds=CHOICE_SECONDS)


@pytest.mark.timeout(300)
async def test_streams_outlive_a_server_wherever_it_was(cluster: list[Member], bus: Bus) -> None:
    await make_streams(bus, replicas=SERVERS)
    for stream in (subjects.TASKS_STREAM, subjects.RESULTS_STREAM, subjects.PROGRESS_STREAM):
        assert (await bus.jetstream.stream_info(stream)).config.num_replicas == SERVERS

    for number, member in enumerate(cluster):
        member.kill()
        subject = subjects.result(f"g{number}")

        async def is_stored(subject: str = subject) -> bool:
            with suppress(BusUnavailable):
                await bus.publish(subject, CancelNotice(), message_id=subject)
                return True
            return False

        await until(is_stored, seconds=CHOICE_SECONDS)
        await member.start()

    async def all_are_there() -> bool:
        with suppress(BusUnavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError):
            state = (await bus.jetstream.stream_info(subjects.RESULTS_STREAM)).state
            return state.messages == SERVERS
        return False

    await until(all_are_there, seconds=CHOICE_SECONDS)


async def test_fewer_replicas_are_a_change_like_another(bus: Bus) -> None:
    await make_streams(bus, replicas=1)
    assert (await bus.jetstream.stream_info(subjects.RESULTS_STREAM)).config.num_replicas == 1

"""The stack that the other tests here break: it draws what a script says, and its clients can tell."""

from tests.faults.clients import Clients


async def test_scripted_pictures(clients: Clients) -> None:
    ids = await clients.ask_often(3, "step=0.01")
    kept = await clients.assert_kept()
    kept.assert_drawn_once(*ids)

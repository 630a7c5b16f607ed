"""What probes over HTTP are told by real processes."""

import httpx2

from easel.embedded import Stack
from tests.integration.calls import until
from tests.scraping import scrape


async def probe(metrics_url: str, name: str) -> tuple[int, str]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(metrics_url.replace("/metrics", f"/{name}"))
    return answer.status_code, answer.text


async def test_a_gateway_is_alive_and_ready(stack: Stack) -> None:
    for gateway in stack.gateways:
        assert await probe(gateway.metrics_url, "livez") == (200, "ok event loop: ok\n")
        assert await probe(gateway.metrics_url, "readyz") == (200, "ok database: ok\nok streams: ok\n")


async def test_without_nats_a_gateway_still_is(stack: Stack) -> None:
    stack.servers.nats.kill()
    try:
        gateway = stack.gateways[0]

        async def it_noticed() -> bool:
            return (await scrape(gateway.metrics_url)).value("easel_bus_connected") == 0

        await until(it_noticed)
        assert (await probe(gateway.metrics_url, "livez"))[0] == 200
        assert (await probe(gateway.metrics_url, "readyz"))[0] == 200
        assert await gateway.is_ready()
    finally:
        await stack.servers.nats.start()


async def test_a_gateway_that_lost_its_database_is_alive_and_not_ready(stack: Stack) -> None:
    gateway = stack.gateways[0]
    await stack.servers.postgres.stop()
    try:

        async def both_say_so() -> bool:
            code, text = await probe(gateway.metrics_url, "readyz")
            return code == 503 and "no database: not for" in text and not await gateway.is_ready()

        await until(both_say_so)
        assert (await probe(gateway.metrics_url, "livez"))[0] == 200
    finally:
        await stack.servers.postgres.start()
    await until(gateway.is_ready)

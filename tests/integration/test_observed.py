"""A real Prometheus reads a stack under load: every query of every dashboard and rule finds something."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from easel.client import Client, GenerationSpec
from easel.embedded import Stack, prometheus
from easel.v1.generation_pb2 import PreviewSpec
from tests import scripted
from tests.integration.calls import until
from tests.unit.observe.expressions import alerts, queries, recorded, series_of

pytestmark = pytest.mark.skipif(not prometheus.is_installed(), reason="Prometheus is not installed here")

PATIENCE_SECONDS = 60.0


class Asker:
    """Asks Prometheus."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **parameters: str) -> Any:
        answer = (await self._client.get(f"/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def finds(self, expr: str) -> bool:
        """Whether there is a series with a number; a division of nothing by nothing gives one without."""
        found = (await self.get("query", query=expr))["result"]
        return any(not math.isnan(float(series["value"][1])) for series in found)

    async def until_found(self, exprs: dict[str, str]) -> dict[str, str]:
        """Ask until each finds something, or patience ends; give those that find nothing."""
        missing = dict(exprs)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while missing:
                    missing = {where: expr for where, expr in missing.items() if not await self.finds(expr)}
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pass
        return missing


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("observed")
    environment = {"EASEL_RENEW_SECONDS": "0.3", "EASEL_RETRY_BACKOFF_SECONDS": "0", **scripted.ENVIRONMENT}
    async with Stack(
        folder, worker_module="tests.scripted", model="scripted", environment=environment, observed_every_seconds=0.5
    ) as stack:
        yield stack


@pytest.fixture
async def asker(stack: Stack) -> AsyncIterator[Asker]:
    assert stack.prometheus is not None
    async with httpx2.AsyncClient(base_url=stack.prometheus.url) as client:
        yield Asker(client)


@asynccontextmanager
async def load(stack: Stack) -> AsyncIterator[None]:
    """Ask for pictures, one after the other, of which some fail."""

    async def ask(client: Client) -> None:
        prompts = ("step=0.02 a castle", "step=0.02 fail=model_error a boat")
        while True:
            for prompt in prompts:
                spec = GenerationSpec(model="scripted", prompt=prompt, steps=6, preview=PreviewSpec(every_steps=1))
                created = await client.create(spec)
                async for _ in client.watch(created.id):
                    pass

    async with Client(stack.target) as client:
        asking = asyncio.create_task(ask(client))
        try:
            yield
            assert not asking.done()
        finally:
            asking.cancel()


async def test_every_query_of_dashboards_and_rules_finds_something(stack: Stack, asker: Asker) -> None:
    exprs = {f"{where}: {expr}": expr for where, expr in queries()}
    exprs |= {rule["record"]: rule["record"] for rule in recorded()}
    exprs |= {alert["alert"]: series_of(alert) for alert in alerts()}
    async with load(stack):
        missing = await asker.until_found(exprs)
    assert missing == {}


async def test_it_reads_every_process_and_finds_no_fault_with_the_rules(asker: Asker) -> None:
    async def both_are_read() -> bool:
        targets = (await asker.get("targets"))["activeTargets"]
        return sorted((target["labels"]["job"], target["health"]) for target in targets) == [
            ("gateway", "up"),
            ("worker", "up"),
        ]

    await until(both_are_read)
    groups = (await asker.get("rules"))["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    # Failures of some requests are their own, and nothing to wake anybody for.
    firing = [alert for alert in (await asker.get("alerts"))["alerts"] if alert["state"] == "firing"]
    assert [alert["labels"]["alertname"] for alert in firing] == []

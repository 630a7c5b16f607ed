"""Reading metrics as Prometheus does."""

from collections.abc import Mapping

import httpx2
from prometheus_client.parser import text_string_to_metric_families


class Samples:
    """What one scrape found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels, among others; 0 without any."""
        return sum(sample.value for sample in self._samples if sample.name == name and _has(sample.labels, labels))

    def has(self, name: str) -> bool:
        return any(sample.name == name for sample in self._samples)


async def scrape(url: str) -> Samples:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(url)
    return Samples(answer.raise_for_status().text)


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()

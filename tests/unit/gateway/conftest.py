import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where a test reads what was measured."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)

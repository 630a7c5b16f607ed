"""The settings of a run: everything is scaled down, so that much happens in little time."""

from tests import scripted

#: As an operator would set them, but for the times: a lease of 30 s and a renewal every 5 s become these.
SETTINGS = {
    "EASEL_LEASE_SECONDS": "2",
    "EASEL_RENEW_SECONDS": "0.3",
    "EASEL_SWEEP_SECONDS": "0.2",
    "EASEL_RETRY_BACKOFF_SECONDS": "0.1",
    "EASEL_RECHECK_SECONDS": "1",
    "EASEL_TOPOLOGY_SECONDS": "1",
    "EASEL_DATABASE_TIMEOUT_SECONDS": "2",
    "EASEL_DRAIN_GRACE_SECONDS": "2",
    "EASEL_SLOTS": "4",
}

#: The mean pause between two kills.
PACE_SECONDS = 2.0
#: How many clients have a visit under way at the same time.
CLIENTS = 10


def environment() -> dict[str, str]:
    """Make the environment of gateways and workers."""
    return {
        **SETTINGS,
        "EASEL_LOG_LEVEL": "DEBUG",
        **scripted.ENVIRONMENT,
    }

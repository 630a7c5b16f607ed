"""The gateway's settings."""

from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from easel.settings import Address, OptionalAddress, Settings

SWEEPS_PER_LEASE = 5
#: How long after its end a generation may still get pictures, from a worker that does not know of it.
STRAGGLING = timedelta(hours=1)
#: A century: times far beyond are more than Python can tell.
MAX_DAYS = 36_500


class GatewaySettings(Settings):
    """What the gateway needs beyond what both services share."""

    database_url: SecretStr = Field(description="PostgreSQL 18 or later: `postgresql://user:password@host:port/name`.")
    database_pool_size: int = Field(10, ge=1, description="The most connections to PostgreSQL for clients' calls.")
    database_work_pool_size: int = Field(
        8, ge=1, description="The most connections beside those, for workers' requests and the gateway's own work."
    )
    database_timeout_seconds: float = Field(5, gt=0, description="How long a statement may take before UNAVAILABLE.")
    listen: Address = Field("127.0.0.1:50051", description="The host and port of the gRPC server.")
    metrics_listen: OptionalAddress = Field(
        "127.0.0.1:9464", description="The host and port of the metrics, at `/metrics`; none when empty."
    )
    reflection: bool = Field(True, description="Whether gRPC reflection is served.")
    write_timeout_seconds: float = Field(
        30, gt=0, description="How long a watcher may leave unread what it is sent before its stream ends."
    )
    lease_seconds: float = Field(30, gt=0, description="How long an attempt is its worker's without a renewal.")
    max_backlog: int = Field(10_000, ge=1, description="The most generations that wait for one model.")
    max_lost_attempts: int = Field(5, ge=1, description="Lost or failed attempts, alone, that make a dead letter.")
    retry_backoff_seconds: float = Field(1, ge=0, description="The wait after a first attempt in vain; it doubles.")
    dispatch_seconds: float = Field(0.2, gt=0, description="How often the queue is looked at without a nudge.")
    sweep_seconds: float = Field(1, gt=0, description="How often lost hints, leases and deadlines are looked for.")
    recheck_seconds: float = Field(2, gt=0, description="How often watched generations are looked up without a nudge.")
    topology_seconds: float = Field(5, gt=0, description="How often the streams on NATS are made sure of.")
    stream_replicas: int = Field(
        1, ge=1, le=5, description="On how many servers of a NATS cluster each stream is kept; 3 survive a loss."
    )
    url_lifetime_seconds: int = Field(3600, ge=1, le=604_800, description="How long signed URLs work by default.")
    retention_days: float | None = Field(
        None,
        gt=0,
        le=MAX_DAYS,
        description="How long final generations are kept, with their pictures; for ever when not set.",
    )
    backup_days: float = Field(
        7,
        ge=0,
        le=MAX_DAYS,
        description="How long pictures outlive their generation, for backups that are restored; at least an hour.",
    )
    removal_seconds: float = Field(30, gt=0, description="How often it is looked for what is to be removed.")
    drain_grace_seconds: float = Field(10, ge=0, description="How long running calls may take to end at shutdown.")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("a PostgreSQL URL looks like postgresql://user:password@host:port/name")
        return url

    @model_validator(mode="after")
    def _sweeps_often_enough(self) -> Self:
        # A round that took half a lease counts as an outage: then nothing would ever be judged.
        if self.sweep_seconds > self.lease_seconds / SWEEPS_PER_LEASE:
            raise ValueError(f"EASEL_SWEEP_SECONDS must be at most a {SWEEPS_PER_LEASE}th of EASEL_LEASE_SECONDS")
        return self

    @property
    def lease(self) -> timedelta:
        """How long an attempt is its worker's without a renewal."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def retention(self) -> timedelta | None:
        """How long final generations are kept; for ever when None."""
        return None if self.retention_days is None else timedelta(days=self.retention_days)

    @property
    def backup_age(self) -> timedelta:
        """How long pictures outlive their generation; a worker that is cut off may store some for a while."""
        return max(timedelta(days=self.backup_days), STRAGGLING)

    @property
    def retry_backoff(self) -> timedelta:
        """The wait after a first lost attempt."""
        return timedelta(seconds=self.retry_backoff_seconds)

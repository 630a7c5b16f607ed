"""Settings that both services share, read once from the environment and `.env`, and frozen."""

import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from loguru import logger
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from easel import crash, logs, reporting, tracing
from easel.crash import CrashPoint
from easel.environment import ENV_FILE

MAX_PORT = 65_535
#: So long a process that ends goes on sending what is left of traces and errors.
FLUSH_SECONDS = 3.0

#: loguru's own levels, in either case.
LogLevel = Annotated[
    Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class Misconfigured(Exception):
    """A setting turned out to be wrong; the message is one line that names it."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"EASEL_{setting.upper()}: {problem}")


def split_address(address: str) -> tuple[str, int]:
    """Take `host:port` apart; an IPv6 host is without its brackets then.

    Raises:
        ValueError: it is no such thing.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("an address looks like host:port, such as 127.0.0.1:50051 or [::]:50051")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_address(address: str) -> str:
    split_address(address)
    return address


def _check_optional_address(address: str) -> str:
    return address and _check_address(address)


#: The host and port on which something listens; port 0 takes a free one, and the log says which.
Address = Annotated[str, AfterValidator(_check_address)]

#: The same, or empty, which turns that off.
OptionalAddress = Annotated[str, AfterValidator(_check_optional_address)]


class Settings(BaseSettings):
    """What gateway and workers need alike. Every field is the environment variable of its name after `EASEL_`."""

    model_config = SettingsConfigDict(
        env_prefix="EASEL_", env_file=ENV_FILE, extra="ignore", frozen=True, allow_inf_nan=False
    )

    nats_url: SecretStr = Field(
        SecretStr("nats://127.0.0.1:4222"),
        description="NATS, with user and password where it wants them; several with commas between.",
    )
    nats_ca_file: str = Field(
        "", description="PEM: the authorities NATS with TLS is checked against; those of the system when empty."
    )
    s3_endpoint: str = Field("http://127.0.0.1:9000", description="The S3 server, as the services reach it.")
    s3_public_endpoint: str = Field("", description="The S3 server in signed URLs; `s3_endpoint` when empty.")
    s3_ca_file: str = Field(
        "", description="PEM: the authorities S3 with TLS is checked against; those of the system when empty."
    )
    s3_region: str = Field("us-east-1", description="The region in signatures.")
    s3_bucket: str = Field("easel", description="The bucket of the pictures.")
    s3_access_key: str = Field("", description="The S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="The S3 secret key.")
    log_level: LogLevel = Field("INFO", description="The least level that is logged.")
    log_format: logs.LogFormat = Field("human", description="`human` for people, `json` for collectors.")
    log_file: str = Field("", description="The file of the log, for one process alone; standard error when empty.")
    log_rotation: str = Field(
        "100 MB", description="When a new log file is begun: a size, `1 day`, `00:00`; never when empty."
    )
    log_retention: str = Field(
        "7 days", description="How long old log files are kept, or how many of them; for ever when empty."
    )
    traces_endpoint: str = Field(
        "", description="Where traces are sent, as OTLP over gRPC, such as `http://collector:4317`; nowhere when empty."
    )
    traces_ratio: float = Field(
        1.0, ge=0, le=1, description="Which share of the traces that begin here is recorded; clients decide on theirs."
    )
    sentry_dsn: SecretStr = Field(SecretStr(""), description="Where Sentry takes errors; nothing is sent when empty.")
    sentry_environment: str = Field("production", description="The environment that Sentry shows.")
    testing: bool = Field(False, description="For tests: whether `crash_at` is heeded.")
    crash_at: CrashPoint | None = Field(None, description="For tests: where this process dies, as by kill -9.")

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_an_endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        url = urlsplit(endpoint)
        is_one = url.scheme in ("http", "https") and url.netloc != "" and not url.path.strip("/")
        if not is_one and not (endpoint == "" and info.field_name == "s3_public_endpoint"):
            raise ValueError("an S3 endpoint looks like http(s)://host[:port]")
        return endpoint

    @field_validator("nats_url")
    @classmethod
    def _is_a_nats_url(cls, url: SecretStr) -> SecretStr:
        for each in map(urlsplit, url.get_secret_value().split(",")):
            if each.scheme not in ("nats", "tls", "ws", "wss") or not each.hostname:
                raise ValueError("a NATS URL looks like nats://user:password@host:port, with commas between several")
        return url

    @field_validator("nats_ca_file", "s3_ca_file")
    @classmethod
    def _holds_certificates(cls, file: str) -> str:
        if file:
            try:
                ssl.create_default_context(cafile=file)
            except OSError as error:
                raise ValueError(f"cannot read certificates from {file}: {error.strerror or error}") from None
        return file

    @field_validator("traces_endpoint")
    @classmethod
    def _is_a_collector(cls, endpoint: str) -> str:
        url = urlsplit(endpoint)
        if endpoint and (url.scheme not in ("http", "https") or not url.hostname):
            raise ValueError("a collector of traces looks like http://host:4317, or https:// with TLS")
        return endpoint

    @field_validator("log_rotation")
    @classmethod
    def _is_a_rotation(cls, rotation: str) -> str:
        try:
            logs.check_rotation(rotation)
        except ValueError:
            raise ValueError("a rotation looks like `100 MB`, `1 day` or `00:00`") from None
        return rotation

    @field_validator("log_retention")
    @classmethod
    def _is_a_retention(cls, retention: str) -> str:
        try:
            logs.check_retention(retention)
        except ValueError:
            raise ValueError("a retention looks like `7 days`, or is a number of files") from None
        return retention

    def configure_logs(self, *, service: str) -> None:
        """Have this process log as the settings say.

        Raises:
            Misconfigured: the log file cannot be written.
        """
        try:
            logs.configure(
                service=service,
                level=self.log_level,
                log_format=self.log_format,
                sink=Path(self.log_file) if self.log_file else None,
                rotation=self.log_rotation,
                retention=self.log_retention,
            )
        except OSError as error:
            raise Misconfigured("log_file", f"cannot write {self.log_file}: {error.strerror or error}") from error
        logs.take_over()

    def refuse(self, problem: object) -> None:
        """Say what ends this process before it has begun: in a line for people, or for collectors where they listen."""
        if self.log_format == "json" and not self.log_file:
            logger.critical("{}", problem, action="refused")
        else:
            print(problem, file=sys.stderr)

    def start_exporters(self, *, service: str) -> Callable[[], None]:
        """Have this process send traces and errors as the settings say; after `configure_logs`.

        Returns:
            What is to be called at the end: it sends what is left, as far as that takes no more than some seconds.

        Raises:
            Misconfigured: what sends them is not installed, or the DSN is none.
        """
        closing = []
        if self.traces_endpoint:
            try:
                closing.append(tracing.configure(self.traces_endpoint, service=service, ratio=self.traces_ratio))
            except tracing.TracesUnavailable as error:
                raise Misconfigured("traces_endpoint", str(error)) from error
        if dsn := self.sentry_dsn.get_secret_value():
            try:
                closing.append(reporting.configure(dsn, service=service, environment=self.sentry_environment))
            except reporting.ReportingUnavailable as error:
                raise Misconfigured("sentry_dsn", str(error)) from error

        def flush() -> None:
            for each in closing:
                each()

        def close() -> None:
            # On a thread that may stay behind: both SDKs may try for longer than whoever stops us waits.
            flushing = Thread(target=flush, name="flush", daemon=True)
            flushing.start()
            flushing.join(FLUSH_SECONDS)

        return close if closing else lambda: None

    def arm_crash_point(self) -> None:
        """Have this process die where a test wants it to; without `testing` nothing does."""
        crash.arm(self.crash_at if self.testing else None)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Read the settings, or end the process with one line for each that is wrong.

        Raises:
            SystemExit: with status 2, after the lines were printed.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            for problem in error.errors():
                name = "".join(f"EASEL_{part}: ".upper() for part in problem["loc"])
                print(f"{name}{problem['msg'].removeprefix('Value error, ')}", file=sys.stderr)
            raise SystemExit(2) from None

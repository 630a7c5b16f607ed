"""Settings that both services share, read once from the environment and `.env`, and frozen."""

import sys
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from easel.logs import LogFormat

#: loguru's own levels, in either case.
LogLevel = Annotated[
    Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class Settings(BaseSettings):
    """What gateway and workers need alike. Every field is the environment variable of its name after `EASEL_`."""

    model_config = SettingsConfigDict(env_prefix="EASEL_", env_file=".env", extra="ignore", frozen=True)

    nats_url: SecretStr = Field(
        SecretStr("nats://127.0.0.1:4222"), description="NATS, with user and password where it wants them."
    )
    s3_endpoint: str = Field("http://127.0.0.1:9000", description="The S3 server, as the services reach it.")
    s3_public_endpoint: str = Field("", description="The S3 server in signed URLs; `s3_endpoint` when empty.")
    s3_region: str = Field("us-east-1", description="The region in signatures.")
    s3_bucket: str = Field("easel", description="The bucket of the pictures.")
    s3_access_key: str = Field("", description="The S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="The S3 secret key.")
    log_level: LogLevel = Field("INFO", description="The least level that is logged.")
    log_format: LogFormat = Field("human", description="`human` for people, `json` for collectors.")

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
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
            raise ValueError("a NATS URL looks like nats://user:password@host:port")
        return url

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

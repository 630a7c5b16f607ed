"""Settings that both services share, read once from the environment and `.env`, and frozen."""

import sys
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
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
                name = "EASEL_" + "_".join(str(part) for part in problem["loc"]).upper()
                print(f"{name}: {problem['msg']}", file=sys.stderr)
            raise SystemExit(2) from None

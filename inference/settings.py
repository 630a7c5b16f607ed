"""The settings of a worker."""

from typing import Literal

from pydantic import Field, field_validator

from easel import subjects
from easel.settings import OptionalAddress, Settings

Device = Literal["auto", "cuda", "mps", "cpu"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class WorkerSettings(Settings):
    """What a worker needs beyond the shared settings."""

    model: str = Field(
        "postcard",
        description="The model: `postcard`, a folder in diffusers' layout, or a hub id such as `stabilityai/sd-turbo`.",
    )
    metrics_listen: OptionalAddress = Field(
        "127.0.0.1:9465", description="The host and port of the metrics, at `/metrics`; none when empty."
    )
    model_name: str = Field("", description="The name clients use; made out of `model` when empty.")
    device: Device = Field("auto", description="Where to draw; `auto` takes cuda, else mps, else cpu.")
    dtype: Dtype = Field("auto", description="Precision; `auto` takes float16 on cuda and float32 elsewhere.")
    threads: int = Field(0, ge=0, le=1024, description="At most so many CPU threads for torch; 0 leaves it to torch.")
    # One, because the stock pipeline draws one request at a time: a second one held would wait here while another
    # worker may be idle. The device still does not wait between requests, since a slot is free again as soon as the
    # last step is done: the next request is claimed while the one before is decoded, encoded and uploaded.
    slots: int = Field(1, ge=1, le=256, description="How many requests are held for drawing at once.")
    renew_seconds: float = Field(
        5.0, ge=0.05, le=300, description="Seconds between renewals; well below a third of the lease."
    )
    drain_grace_seconds: float = Field(
        20.0, ge=0, le=3600, description="Seconds to finish what is held when stopping; the rest is handed back."
    )
    upload_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="Seconds to go on trying to store the pictures of one request."
    )

    @field_validator("model")
    @classmethod
    def _model_is_named(cls, model: str) -> str:
        if not model.strip():
            raise ValueError(
                "name a model: `postcard`, a folder in diffusers' layout, or a hub id such as stabilityai/sd-turbo"
            )
        return model.strip()

    @field_validator("model_name")
    @classmethod
    def _name_fits_into_subjects(cls, name: str) -> str:
        if name and not subjects.is_token(name):
            raise ValueError("1 to 64 letters, digits, `_` and `-`")
        return name

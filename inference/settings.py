"""The settings of a worker."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from easel import subjects
from easel.settings import OptionalAddress, Settings

Device = Literal["auto", "cuda", "mps", "cpu"]
Offload = Literal["none", "model", "layers"]
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
    slots: int = Field(
        0,
        ge=0,
        le=256,
        description="At most so many requests are held for drawing; 0 takes what there is room for.",
    )
    max_rows: int = Field(
        64,
        ge=1,
        le=1024,
        description="At most so many rows in one batch, unless their number is fixed; with guidance a picture has two.",
    )
    fixed_rows: int = Field(
        0,
        ge=0,
        le=1024,
        description="Fill every batch up to so many rows, so that no bit of a picture depends on others; 0 does not.",
    )
    channels_last: bool = Field(False, description="Keep the model's weights in the order that tensor cores like.")
    compile: bool = Field(
        False, description="Compile the denoiser in the background, and go over to that when it is ready."
    )
    offload: Offload = Field(
        "none",
        description="What leaves the GPU while it is not needed: `model` whole parts; `layers` each layer, far slower.",
    )
    embedding_cache_mib: int = Field(
        64,
        ge=0,
        le=65536,
        description="MiB of memory for what prompts became: those that come again are not encoded.",
    )
    renew_seconds: float = Field(
        5.0, ge=0.05, le=300, description="Seconds between renewals; well below a third of the lease."
    )
    drain_grace_seconds: float = Field(
        20.0, ge=0, le=3600, description="Seconds to finish what is held when stopping; the rest is handed back."
    )
    upload_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="Seconds to go on trying to store the pictures of one request."
    )

    @field_validator("offload")
    @classmethod
    def _stays_if_compiled(cls, offload: Offload, info: ValidationInfo) -> Offload:
        if offload != "none" and info.data.get("compile"):
            raise ValueError("a compiled denoiser cannot leave the GPU: without EASEL_COMPILE it can")
        return offload

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

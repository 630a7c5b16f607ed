"""Finds and loads a model in diffusers' layout: from a folder or the hub, safetensors only, without foreign code."""

import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from inference.engine.adapter import Adapter
from inference.engine.observer import UNOBSERVED, Observer
from inference.settings import Device, Dtype, WorkerSettings

#: The models that come with Easel, by name.
BUNDLED: Mapping[str, Path] = {"postcard": Path(__file__).parent / "postcard" / "model"}

INDEX_FILE = "model_index.json"
CARD_FILE = "easel.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

#: What diffusers raises for a folder that is not as it should be.
LOADING_ERRORS = (OSError, ValueError, RuntimeError, ImportError, AttributeError, KeyError)
#: What the libraries below raise when they cannot reach the hub.
_OUT_OF_REACH = frozenset({"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError"})


class ModelUnavailable(Exception):
    """The model cannot be used; the message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a model's folder says of itself in `easel.json`, which it may lack."""

    name: str = ""
    description: str = ""
    default_width: int | None = None
    default_height: int | None = None
    default_steps: int | None = None
    default_guidance_scale: float | None = None
    default_scheduler: str | None = None
    #: More CPU threads than this do not pay: a small model gains nothing by them, and one that shares its cores with
    #: other processes becomes ten times slower, since each small product waits for the slowest thread.
    max_threads: int | None = None

    def cap_threads(self, threads: int) -> int:
        """Bound a number of threads, 0 being any number, by what pays."""
        return min(filter(None, (threads, self.max_threads)), default=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """Where a worker's model comes from."""

    card: Card
    #: Loads it, on the engine's thread; takes seconds to minutes. It tells the observer of its doings.
    load: Callable[[Observer], Adapter]


def source(settings: WorkerSettings) -> ModelSource:
    """Find the model that the settings name, without loading it.

    Raises:
        ModelUnavailable: there is none, or its card is not as it should be.
    """
    location = locate(settings.model)
    card = read_card(location)
    threads = card.cap_threads(settings.threads)

    def load_observed(observer: Observer) -> Adapter:
        return load(location, settings, threads=threads, observer=observer)

    return ModelSource(card=card, load=load_observed)


def locate(model: str) -> str:
    """Find a bundled model or a folder in diffusers' layout, or see that it may be a hub id.

    Nothing slow is imported for that.

    Raises:
        ModelUnavailable: it is none of these.
    """
    folder = BUNDLED.get(model, Path(model).expanduser())
    if folder.is_dir():
        if not (folder / INDEX_FILE).is_file():
            raise ModelUnavailable(
                f"{model} has no {INDEX_FILE}: a model is a folder in diffusers' layout, as `save_pretrained` writes it"
            )
        return str(folder)
    if folder.is_file():
        raise ModelUnavailable(
            f"{model} is a file: single-file checkpoints are not taken, convert it to diffusers' layout first"
        )
    if _HUB_ID.fullmatch(model):
        return model
    raise ModelUnavailable(
        f"there is no folder {model}: name one in diffusers' layout, a hub id such as stabilityai/sd-turbo, "
        f"or {' or '.join(BUNDLED)}, which is bundled"
    )


def read_card(model: str) -> Card:
    """Read the model's `easel.json`; an empty card where there is none.

    Raises:
        ModelUnavailable: the file is not as it should be.
    """
    path = Path(model).expanduser() / CARD_FILE
    if not path.is_file():
        return Card()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        defaults = {f"default_{key}": value for key, value in content.pop("defaults", {}).items()}
        return Card(**content, **defaults)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"{path} is not as it should be: {error}") from error


def load(model: str, settings: WorkerSettings, *, threads: int, observer: Observer = UNOBSERVED) -> Adapter:
    """Load a model that `locate` has found, onto its device; takes seconds to minutes.

    Raises:
        ModelUnavailable: it cannot be loaded, or the device is not there.
    """
    quieten(offline=Path(model).is_dir())
    import torch  # noqa: PLC0415  # takes seconds; and the environment had to be set before

    if threads:
        torch.set_num_threads(threads)
    device = _choose_device(settings.device)
    pipeline = _load_pipeline(model, dtype=_choose_dtype(settings.dtype, device=device))
    pipeline.set_progress_bar_config(disable=True)
    try:
        _place(pipeline, settings, device=device)
    except LOADING_ERRORS as error:
        raise ModelUnavailable(f"the model {model} cannot be put on {device}: {_reason(error)}") from error
    logger.info(
        "loaded a {} on {}", type(pipeline).__name__, device, action="load_model", torch_threads=torch.get_num_threads()
    )
    return _adapt(pipeline, settings, name=model, observer=observer)


def quieten(*, offline: bool) -> None:
    """Set what the libraries read on import: no telemetry, no chatter, and without need no network.

    Of chatter there is none to be had at all: of a prompt that is too long, they print what they leave out.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["DIFFUSERS_VERBOSITY"] = "error"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    import diffusers.utils.logging  # noqa: PLC0415
    import transformers.utils.logging  # noqa: PLC0415

    # The environment is read on import, which may have been before.
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
        # What errors they tell of are lines of our log, like all others.
        library.disable_default_handler()
        library.enable_propagation()


def _choose_device(device: Device) -> str:
    import torch  # noqa: PLC0415

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name]())
    if not there[device]():
        raise ModelUnavailable(f"EASEL_DEVICE: torch finds no {device} device here; `auto` takes what there is")
    return device


def _choose_dtype(dtype: Dtype, *, device: str) -> Any:
    import torch  # noqa: PLC0415

    if dtype == "auto":
        dtype = "float16" if device == "cuda" else "float32"
    return getattr(torch, dtype)


def _load_pipeline(model: str, *, dtype: Any) -> Any:
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    try:
        return DiffusionPipeline.from_pretrained(
            model,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(model).is_dir(),
            # What may be drawn is the operator's to decide, and the checker would double the size of a small model.
            # Pipelines without one ignore these two.
            safety_checker=None,
            requires_safety_checker=False,
        )
    except LOADING_ERRORS as error:
        raise ModelUnavailable(_explain(model, error)) from error


def _place(pipeline: Any, settings: WorkerSettings, *, device: str) -> None:
    """Put a pipeline where it draws, or where it waits until it does."""
    import torch  # noqa: PLC0415

    from inference.engine.stable_diffusion_xl import upcast_decoder  # noqa: PLC0415

    if type(pipeline).__name__ == "StableDiffusionXLPipeline":
        upcast_decoder(pipeline)
    if settings.channels_last:
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(memory_format=torch.channels_last)
    match settings.offload:
        case "none":
            pipeline.to(device)
        case "model":
            pipeline.enable_model_cpu_offload(device=device)
        case "layers":
            # Not accelerate's sequential offload: it loads no layer ahead, and fails where the CPU is the device.
            pipeline.enable_group_offload(
                onload_device=torch.device(device), offload_type="leaf_level", use_stream=device == "cuda"
            )


def _explain(model: str, error: BaseException) -> str:
    reason = _reason(error)
    if Path(model).is_dir():
        return f"the model in {model} cannot be loaded: {reason}"
    return (
        f"the model {model} is no local folder and could not be had from the hub: {reason}. "
        f"Check the name and the network, or name a folder; {' and '.join(BUNDLED)} needs no network."
    )


def _reason(error: BaseException) -> str:
    """Say in one clause what went wrong; the hub's own words for it speak of arguments that nobody here gave."""
    names = set()
    cause: BaseException | None = error
    while cause is not None:
        names.add(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if "RepositoryNotFoundError" in names:
        return "there is none of this name, or it is not public"
    if names & _OUT_OF_REACH:
        return "it is not in the cache of this machine, and the hub is out of reach"
    first_line = str(error).strip().split("\n")[0] or type(error).__name__
    return textwrap.shorten(first_line, 300, placeholder=" ...").rstrip(".")


def _adapt(pipeline: Any, settings: WorkerSettings, *, name: str, observer: Observer) -> Adapter:
    # Here, since these modules import torch.
    from inference.engine.stable_diffusion import StableDiffusionAdapter  # noqa: PLC0415
    from inference.engine.stable_diffusion_xl import StableDiffusionXLAdapter  # noqa: PLC0415
    from inference.engine.whole_call import UnsuitablePipeline, WholeCallAdapter  # noqa: PLC0415

    families = {
        "StableDiffusionPipeline": StableDiffusionAdapter,
        "LatentConsistencyModelPipeline": StableDiffusionAdapter,
        "StableDiffusionXLPipeline": StableDiffusionXLAdapter,
    }
    if family := families.get(type(pipeline).__name__):
        cache_bytes = settings.embedding_cache_mib * 2**20
        return family(
            pipeline,
            name=name,
            cache_bytes=cache_bytes,
            fixed_rows=settings.fixed_rows,
            compiles=settings.compile,
            observer=observer,
        )
    try:
        return WholeCallAdapter(pipeline, name=name, observer=observer)
    except UnsuitablePipeline as error:
        raise ModelUnavailable(f"{name} is no model that Easel can serve: {error}") from error

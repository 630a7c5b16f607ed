"""`python -m inference.check`: what a worker needs, checked for `easel doctor`."""

import asyncio

from easel.checks import check_exporters, check_nats, check_storage, in_order
from easel.environment import lookup
from easel.finding import Finding, Verdict, report
from inference import models
from inference.models import ModelUnavailable
from inference.settings import Device, WorkerSettings

GIB = 1024**3


async def check(settings: WorkerSettings) -> list[Finding]:
    """Check the model, NATS, the storage, and where traces and errors go."""
    return in_order(
        [
            [check_model(settings.model)],
            *await asyncio.gather(
                check_nats(settings, with_streams=False), check_storage(settings), check_exporters(settings)
            ),
        ]
    )


def check_model(model: str) -> Finding:
    """Check that a model is there, as far as that can be seen without loading it."""
    try:
        location = models.locate(model)
        models.read_card(location)
    except ModelUnavailable as error:
        return Finding("model", Verdict.FAIL, str(error), "EASEL_MODEL names it")
    return Finding("model", Verdict.OK, location)


def check_devices(device: Device) -> Finding:
    """Check what torch can draw on."""
    import torch  # noqa: PLC0415  # takes seconds, and what is found before need not wait for it

    there = [f"torch {torch.__version__}"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        there.append(f"{properties.name} with {properties.total_memory / GIB:.0f} GiB")
    has_mps = torch.backends.mps.is_available()
    there += ["mps"] if has_mps else []
    there.append(f"{torch.get_num_threads()} CPU threads")
    found = ", ".join(there)
    missing = (device == "cuda" and not torch.cuda.is_available()) or (device == "mps" and not has_mps)
    if missing:
        return Finding("devices", Verdict.FAIL, found, f"EASEL_DEVICE={device} is not there; `auto` takes what is")
    if not torch.cuda.is_available() and not has_mps:
        return Finding("devices", Verdict.WARN, found, "drawing on the CPU alone is slow, but for small models")
    return Finding("devices", Verdict.OK, found)


def main() -> None:
    """Print the findings; settings that are wrong end it with status 2 and a line for each."""
    if not lookup("EASEL_MODEL"):
        report([check_devices("auto")])
        unset = "EASEL_MODEL is not set, so no worker is meant to run here"
        report([Finding("settings", Verdict.SKIP, unset, "`easel up` sets everything by itself")])
        return
    settings = WorkerSettings.read()
    report([Finding("settings", Verdict.OK, "they can be read")])
    report(asyncio.run(check(settings)))
    report([check_devices(settings.device)])


if __name__ == "__main__":
    main()

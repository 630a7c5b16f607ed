"""`python -m inference`: a worker."""

import asyncio
import os
import sys

import uvloop
from loguru import logger

from easel.settings import Misconfigured
from inference import bootstrap, fleet
from inference.models import ModelSource, ModelUnavailable
from inference.settings import WorkerSettings

USAGE = "usage: python -m inference [--devices all|0,1,...] (its settings come from the environment)"


def main(arguments: list[str], *, model: ModelSource | None = None) -> int:
    """Run a worker, with the model that the settings name unless one is given, and return the exit status.

    It is 0 after a stop that was asked for, 1 when the worker broke, 2 when it was started wrongly.
    """
    if arguments and (len(arguments) != 2 or arguments[0] != "--devices"):  # noqa: PLR2004  # an option and its value
        print(USAGE, file=sys.stderr)
        return 2
    settings = WorkerSettings.read()
    try:
        settings.configure_logs(service="worker")
        settings.arm_crash_point()
        close_exporters = settings.start_exporters(service="worker")
        try:
            return _run(settings, devices=arguments[1] if arguments else None, model=model)
        finally:
            close_exporters()
    except (Misconfigured, fleet.NoDevices) as error:
        settings.refuse(error)
    except ModelUnavailable as error:
        settings.refuse(f"EASEL_MODEL: {error}")
    return 2


def _run(settings: WorkerSettings, *, devices: str | None, model: ModelSource | None) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if devices is not None:
                return runner.run(fleet.run(devices, settings))
            runner.run(bootstrap.run(settings, model=model))
    except (Misconfigured, fleet.NoDevices, ModelUnavailable):
        raise
    except (bootstrap.EngineDied, bootstrap.WorkerBroken):
        return 1
    except Exception:  # noqa: BLE001  # caught here, since after this nothing is sent to Sentry any more
        logger.exception("a defect ended the worker", action="defect")
        return 1
    return 0


def end(status: int) -> None:
    """End without waiting for threads: one may sit in a model that still loads, or in a wedged device."""
    logger.complete()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    end(main(sys.argv[1:]))

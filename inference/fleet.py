"""One worker process for each device, on one machine, started and stopped together."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loguru import logger

from easel.telemetry import SHARED_FOLDER, empty_shared_folder
from inference.settings import WorkerSettings

#: What lists the GPUs that a process may see; each worker sees one.
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
ALL = "all"
#: How a worker ends that was started wrongly: starting it again would change nothing.
STARTED_WRONGLY = 2

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
#: Whoever has run this long begins again with the shortest pause.
PROVEN_SECONDS = 60.0

_COUNT = "import torch; print(torch.cuda.device_count())"


class NoDevices(Exception):
    """There is no such device; the message says what to do."""


async def run(devices: str, settings: WorkerSettings) -> int:
    """Run a worker for each device until told to stop, and start those again that end by themselves.

    Args:
        devices: `all`, or their numbers with commas between.
        settings: Those of all of them; addresses and files that only one process can have are told apart by number.

    Returns:
        The exit status: 0 after a stop that was asked for, 2 if the workers were started wrongly.

    Raises:
        NoDevices: there are none, or they are not named by numbers.
    """
    numbers = await _numbers_of(devices)
    empty_shared_folder()
    fleet = [_Member(number, settings) for number in numbers]
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, _stop_all, fleet, each)
    logger.info("running {} workers", len(fleet), action="fleet_start")
    statuses = await asyncio.gather(*(member.run() for member in fleet))
    return max(statuses)


class _Member:
    """One worker, which sees one device."""

    def __init__(self, number: int, settings: WorkerSettings) -> None:
        self._number = number
        self._environment = {**os.environ, **environment_of(number, settings, outer=os.environ)}
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Keep it running until it is told to stop."""
        pause_seconds, is_first = FIRST_PAUSE_SECONDS, True
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._run_once()
            if self._stopping.is_set():
                return 0
            if status == STARTED_WRONGLY and is_first:
                logger.error("the worker of device {} was started wrongly", self._number, action="fleet_given_up")
                return STARTED_WRONGLY
            is_first = False
            if loop.time() - began > PROVEN_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            logger.error(
                "the worker of device {} ended with status {}; starting it again in {:g} s",
                self._number, status, pause_seconds, action="fleet_restart",
            )  # fmt: skip
            try:
                async with asyncio.timeout(pause_seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            else:
                return 0

    def stop(self, number: signal.Signals) -> None:
        """Pass a signal on; a second one ends the worker at once, as it would by itself."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "inference",
            env=self._environment,
            # Of its own, so that Ctrl-C reaches it once: through this process.
            start_new_session=True,
        )
        if self._stopping.is_set():
            self._process.terminate()
        return await self._process.wait()


def environment_of(number: int, settings: WorkerSettings, *, outer: Mapping[str, str]) -> dict[str, str]:
    """Say what is different for the worker of one device.

    Raises:
        NoDevices: there is none of that number.
    """
    environment = {VISIBLE_DEVICES: str(number)}
    if VISIBLE_DEVICES in outer:
        visible = [name.strip() for name in outer[VISIBLE_DEVICES].split(",") if name.strip()]
        if number >= len(visible):
            raise NoDevices(f"--devices: there is no device {number} among the {len(visible)} of {VISIBLE_DEVICES}")
        environment[VISIBLE_DEVICES] = visible[number]
    host, _, port = settings.metrics_listen.rpartition(":")
    # Those that share what they count share the endpoint, too.
    if port and int(port) and SHARED_FOLDER not in outer:
        environment["EASEL_METRICS_LISTEN"] = f"{host}:{int(port) + number}"
    if settings.log_file:
        file = Path(settings.log_file)
        environment["EASEL_LOG_FILE"] = str(file.with_stem(f"{file.stem}-{number}"))
    return environment


async def _numbers_of(devices: str) -> Sequence[int]:
    if devices != ALL:
        numbers = devices.split(",")
        if not all(number.isdecimal() for number in numbers):
            raise NoDevices(f"--devices: {devices!r} is neither `all` nor numbers with commas between")
        return sorted({int(number) for number in numbers})
    # Torch in a process of its own: this one stays small, and holds no device.
    counting = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", _COUNT, stdout=asyncio.subprocess.PIPE)
    counted, _ = await counting.communicate()
    count = int(counted or 0)
    if not count:
        raise NoDevices("--devices: torch finds no GPU here; without --devices one worker draws on what there is")
    return range(count)


def _stop_all(fleet: Sequence[_Member], number: signal.Signals) -> None:
    logger.info("stopping on {}", number.name, action="fleet_stop")
    for member in fleet:
        member.stop(number)

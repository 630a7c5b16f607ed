"""One child process: launched, asked until it is ready, stopped, killed, paused, and started again."""

import abc
import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from loguru import logger

from easel.embedded import leftovers
from easel.embedded.failure import StackFailed
from easel.embedded.folder import DataFolder
from easel.embedded.launch import bound_to_parent

#: How often a process is asked: at first quickly, since most things take milliseconds, then less and less.
FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.1

WAITING, STARTING, READY, STOPPED = "waiting", "starting", "ready", "stopped"

#: A log longer than this is set aside when its process is made.
LONGEST_LOG_BYTES = 10_000_000


class Process(abc.ABC):
    """A child process, whose name, ports and data stay the same however often it is started.

    A subclass says how to launch it and how to find out whether it is ready.
    """

    stop_signal = signal.SIGTERM
    #: What it gets when this process dies without having stopped it.
    death_signal = signal.SIGTERM
    ready_timeout_seconds = 60.0
    #: More than our services take to finish what they have in hand.
    stop_grace_seconds = 30.0

    def __init__(self, name: str, *, folder: DataFolder) -> None:
        self.name = name
        self.folder = folder
        self.log = folder.logs / f"{name}.log"
        self._record = folder.processes / f"{name}.json"
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        #: What it is doing, for people: one or two words.
        self.activity = WAITING
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    @abc.abstractmethod
    def argv(self) -> Sequence[str]:
        """Say what to run."""

    @abc.abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Say in which environment; nothing is added to it."""

    @abc.abstractmethod
    async def is_ready(self) -> bool:
        """Ask once whether it serves; a question that waits must have an end of its own."""

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Say where to find it, for people."""

    def prefix(self) -> Sequence[str]:
        """Say what to run it through, each part of which must end by executing the rest."""
        return ()

    @property
    def pid(self) -> int:
        """The id of the running process."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives, paused ones included."""
        return self._popen is not None and self._popen.poll() is None

    async def start(self) -> None:
        """Launch it and wait until it is ready.

        Raises:
            StackFailed: it ended, or did not become ready in time.
        """
        self.launch()
        await self.wait_ready()

    def launch(self) -> None:
        """Launch it without waiting for anything."""
        if self.is_running:
            raise RuntimeError(f"{self.name} runs already")
        argv = self.argv()
        self._popen = self._spawn(argv)
        self.activity = STARTING
        leftovers.record(self._record, pid=self._popen.pid, argv=argv)
        logger.debug("launched {} as process {}", self.name, self._popen.pid, action="launch")

    async def wait_ready(self) -> None:
        """Ask it until it is ready.

        Raises:
            StackFailed: it ended, or did not become ready in time.
        """
        pause = Pause()
        deadline = time.monotonic() + self.ready_timeout_seconds
        while True:
            ready = await self.is_ready()
            # Asked after the answer: somebody else may have answered on the port that it could not get.
            if not self.is_running:
                raise self.failure(f"ended with status {self.status} before it was ready")
            if ready:
                self.activity = READY
                return
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready within {self.ready_timeout_seconds:.0f} s")
            await pause()

    async def wait(self) -> int:
        """Wait until it ends by itself or otherwise, and return its exit status; negative is a signal's number."""
        pause = Pause()
        while self.is_running:
            await pause()
        return self.status

    @property
    def status(self) -> int:
        """The exit status of the last run; negative is a signal's number."""
        status = self._popen.poll() if self._popen else None
        if status is None:
            raise RuntimeError(f"{self.name} has not ended")
        return status

    async def stop(self) -> None:
        """Ask it to end, and kill it when it has not within its grace; harmless when it does not run."""
        began = time.monotonic()
        if self.is_running:
            self.resume()
            self._signal(self.stop_signal)
            try:
                await asyncio.wait_for(self.wait(), self.stop_grace_seconds)
            except TimeoutError:
                logger.warning("{} did not stop in time: killing it", self.name, action="stop")
            logger.debug("{} stopped within {:.2f} s", self.name, time.monotonic() - began, action="stop")
        self.kill()

    def kill(self) -> None:
        """Kill it with all its children, as a crash would, and wait until they are gone; harmless when it is dead."""
        if self._popen is None:
            return
        self.activity = STOPPED
        if self._popen.poll() is None:
            # PostgreSQL's children outlive it for a moment, in which a new server would refuse to start.
            children = leftovers.descendants(psutil.Process(self._popen.pid))
            self._popen.kill()
            self._popen.wait()
            leftovers.end_all(children)
        self._record.unlink(missing_ok=True)

    async def restart(self) -> None:
        """Stop it and start it again, on the same ports and data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze it with all its children, as a machine that hangs does."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause."""
        self._signal_all(signal.SIGCONT)

    def failure(self, problem: str) -> StackFailed:
        """Make the error that says what is wrong with it and where to read on."""
        return StackFailed.of(self.name, problem, log=self.log, offset=self._log_offset)

    def _spawn(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_offset = log.tell()
            try:
                return subprocess.Popen(  # noqa: S603
                    [*self.prefix(), *bound_to_parent(self.death_signal), *argv],
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # In a session of its own a Ctrl-C reaches us alone, and we stop things in order.
                    start_new_session=True,
                )
            except OSError as error:
                raise self.failure(f"could not be run: {error}") from error

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to it and then to its children: PostgreSQL's answer queries by themselves."""
        if self.is_running:
            process = psutil.Process(self.pid)
            self._signal(number)
            for child in leftovers.descendants(process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(number)


class Pause:
    """A wait between two questions that grows from one to the next."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    async def __call__(self) -> None:
        """Wait, and wait longer the next time."""
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 1.5, LONGEST_PAUSE_SECONDS)


async def run_to_end(name: str, *, argv: Sequence[str], environment: Mapping[str, str], folder: DataFolder) -> None:
    """Run a command that ends by itself, such as a migration, with its output in a log of its name.

    Raises:
        StackFailed: it could not be run, or its status was not 0.
    """
    errand = Errand(name, argv=argv, environment=environment, folder=folder)
    errand.launch()
    try:
        status = await errand.wait()
    finally:
        errand.kill()
    if status != 0:
        raise errand.failure(f"ended with status {status}")


class Errand(Process):
    """A process that does one thing and ends."""

    death_signal = signal.SIGKILL

    def __init__(self, name: str, *, argv: Sequence[str], environment: Mapping[str, str], folder: DataFolder) -> None:
        super().__init__(name, folder=folder)
        self._argv, self._environment = argv, environment

    def argv(self) -> Sequence[str]:
        """Run the command that was given."""
        return self._argv

    @property
    def place(self) -> str:
        """Say that there is nothing to be found."""
        return ""

    def environment(self) -> Mapping[str, str]:
        """Use the environment that was given."""
        return self._environment

    async def is_ready(self) -> bool:
        """Tell whether it is done."""
        return not self.is_running


def clean_environment(folder: Path) -> dict[str, str]:
    """Make the environment of a server: nothing of ours, since servers read settings from what they find there."""
    return {"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8", "TZ": "UTC"}

"""A room: what an image would run, as a plain process, with as little as a container has.

The image's files lie in a folder of their own, its variables are its environment, and of what is installed here only
what its lock names can be imported. Where the kernel lets us, the process is the first of a PID namespace, on a file
system that is read-only but for the places that a container has for writing; if we are root, it is the image's user,
with no right but that to read.
"""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import psutil

from tests.containers.dockerfile import REPOSITORY, Dockerfile

#: Writable folders are mounted upon themselves; then all else is closed, and the rest of the words is executed.
CLOSE = """
while [ "$1" != -- ]; do mount --bind "$1" "$1" || exit 99; shift; done
shift
for place in / /tmp /var/tmp /home /root /run; do
    if mountpoint -q "$place"; then mount -o remount,bind,ro "$place" || exit 99; fi
done
exec "$@"
"""
#: Another user reads what is root's alone: Python and the checkout may lie there, and pytest's folders do.
READING = (
    "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--securebits=+no_setuid_fixup",
)


class Room:
    """A room for one image."""

    def __init__(self, dockerfile: str, folder: Path, *, environment: Mapping[str, str]) -> None:
        """Furnish a room.

        Args:
            dockerfile: The image's, below the repository.
            folder: Where the room is made; it must not exist.
            environment: What the container is given beside the variables of the image.
        """
        self.image = Dockerfile(dockerfile)
        self.lock = {"gateway/Dockerfile": "gateway", "inference/Dockerfile": "worker"}[dockerfile]
        self._root = folder / "image"
        self._installed = folder / "installed"
        self.image.lay_out(self._root)
        self.writable = [self._root / "tmp", *(self._root / volume.lstrip("/") for volume in self._volumes)]
        for place in self.writable:
            place.mkdir(parents=True, mode=0o777)
            place.chmod(0o777)
        shutil.copytree(REPOSITORY / "tests/containers/installed", self._installed)
        (self._installed / "hidden.json").write_text(json.dumps(hidden_from(self.lock)))
        self._environment = {**self.image.environment, **environment}

    @property
    def _volumes(self) -> list[str]:
        return [word for volume in self.image.image.all("VOLUME") for word in volume.words]

    @property
    def app(self) -> Path:
        """Where its own code lies."""
        return self._root / "app"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the image and of the container, with the places of this machine in them."""
        environment = {name: self._here(value) for name, value in self._environment.items()}
        environment["PYTHONPATH"] += f":{self._installed}"
        # The room's own /tmp lies elsewhere.
        return environment | {"TMPDIR": str(self._root / "tmp")}

    def entrypoint(self, *arguments: str) -> list[str]:
        """Say what its container runs."""
        return [*self.image.image.one("ENTRYPOINT").argv, *arguments]

    @property
    def healthcheck(self) -> list[str]:
        """Say what asks it how it is."""
        kind, _, argv = self.image.image.one("HEALTHCHECK").value.partition(" ")
        assert kind == "CMD"
        return [str(word) for word in json.loads(argv)]

    def start(self, argv: Sequence[str], *, log: Path) -> "Inhabitant":
        """Start a command in it, with its output in a file."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*cage(self.user, tuple(map(str, self.writable))), *argv],
                cwd=self._here(self.image.image.one("WORKDIR").value),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Inhabitant(process, log=log)

    def run(self, argv: Sequence[str], *, log: Path, within_seconds: float) -> int:
        """Run a command in it to its end, and return its exit status."""
        inhabitant = self.start(argv, log=log)
        try:
            return inhabitant.process.wait(within_seconds)
        finally:
            inhabitant.kill()

    def files(self) -> dict[str, int]:
        """List all files of the image with their times, but those at the places for writing."""
        return {
            str(path): path.stat().st_mtime_ns
            for path in self._root.rglob("*")
            if not any(path.is_relative_to(place) for place in self.writable)
        }

    @property
    def user(self) -> int:
        """The number of the image's user."""
        user, _, group = self.image.image.one("USER").value.partition(":")
        assert user == group
        return int(user)

    def _here(self, value: str) -> str:
        """Put this machine's places into a value, be it a path or a list of them."""
        places = {"/opt/venv": sys.prefix, "/app": str(self.app)}
        places |= {"/" + str(place.relative_to(self._root)): str(place) for place in self.writable}
        alternatives = "|".join(map(re.escape, places))
        return re.sub(rf"(?<![^:])({alternatives})(?![\w-])", lambda match: places[match[1]], value)


class Inhabitant:
    """A command that runs in a room."""

    def __init__(self, process: subprocess.Popen[bytes], *, log: Path) -> None:
        self.process = process
        self.log = log

    def terminate(self) -> None:
        """Send it what `docker stop` sends to the first process of a container."""
        outer = psutil.Process(self.process.pid)
        # In a PID namespace of its own, it is a child of the process that made that.
        (first, *_) = outer.children() if outer.name() == "unshare" else [outer]
        first.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it; harmless when it has ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def cage(user: int, writable: Sequence[str]) -> list[str]:
    """Say what to run a command through, so that it can do no more than in a container, as far as the kernel allows."""
    return next((bars for bars in _cages(user, writable) if _holds(tuple(bars))), [])


def is_closed(bars: Sequence[str]) -> bool:
    """Whether a cage closes the file system."""
    return "unshare" in bars


def _cages(user: int, writable: Sequence[str]) -> Iterator[list[str]]:
    closing = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child=SIGKILL", "--"]
    close = ["sh", "-c", CLOSE, "sh", *writable, "--"]
    if os.geteuid() == 0:
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", *READING, "--"]
        yield ["unshare", *closing, *close, *become]
        yield become
    else:
        yield ["unshare", "--user", "--map-root-user", *closing, *close, "setpriv", "--no-new-privs", "--"]


@functools.cache
def _holds(bars: tuple[str, ...]) -> bool:
    if shutil.which(bars[0]) is None:
        return False
    return subprocess.run([*bars, sys.executable, "-c", ""], capture_output=True, check=False).returncode == 0


def hidden_from(lock: str) -> dict[str, list[str]]:
    """List what is installed here and not named by a lock: modules, and the distributions that they come from."""
    named = names_in(lock) | ({"torch"} if lock == "worker" else set())
    hidden = {_canonical(one.name) for one in distributions()} - named
    modules = [
        module
        for module, owners in packages_distributions().items()
        if {_canonical(owner) for owner in owners} <= hidden and module not in ("easel", "gateway", "inference")
    ]
    return {"modules": sorted(modules), "distributions": sorted(hidden)}


def names_in(lock: str) -> set[str]:
    """List the distributions that a lock names."""
    return {name for name, _ in pins_in(lock)}


def pins_in(lock: str) -> set[tuple[str, str]]:
    """List what a lock pins, as names and versions."""
    text = (REPOSITORY / "requirements" / f"{lock}.txt").read_text()
    return {(_canonical(name), version) for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

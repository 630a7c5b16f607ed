"""The folder in which a stack keeps everything: data, secrets, logs, and who runs on it."""

import fcntl
import os
import secrets
from pathlib import Path

from easel.embedded.failure import StackFailed


class DataFolder:
    """The folder of one stack, which at most one running stack may hold."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.processes = self.path / "processes"
        self._lock: int | None = None

    def hold(self) -> None:
        """Make the folder if it is not there yet, and take it for this process.

        Raises:
            StackFailed: another running stack holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            self.processes.mkdir(exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackFailed(f"the data folder {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode() or "unknown"
            os.close(lock)
            raise StackFailed(
                f"the data folder {self.path} is in use by a running stack (process {holder}): "
                "stop that one, or name another folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def release(self) -> None:
        """Let another stack have the folder; harmless when it is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str) -> str:
        """Read a secret of this folder, made of random letters when it is first asked for."""
        file = self.path / "secrets" / name
        if not file.exists():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(file, secrets.token_hex(16))
        return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Write a file that its owner alone can read; it is there whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    partial.replace(file)

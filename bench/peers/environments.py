"""Makes the environment of each peer from its lock, once."""

import subprocess
import sys
from pathlib import Path

#: As Easel's own; `make clean` removes what was made.
TORCH = "torch==2.13.0"
LOCKS = Path(__file__).parent
PLACE = Path(__file__).parents[2] / "build" / "peers"


def python_of(name: str) -> Path:
    """Give the interpreter of a peer's environment, which is made if it is not there.

    Raises:
        subprocess.CalledProcessError: it cannot be made.
    """
    folder, lock = PLACE / name, LOCKS / f"{name}.txt"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists() or made.stat().st_mtime < lock.stat().st_mtime:
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        # Apart, as for Easel: each machine has its own right build of it.
        _run(*pip, TORCH)
        _run(*pip, "--require-hashes", "--requirement", str(lock))
        made.touch()
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True)

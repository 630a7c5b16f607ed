"""Makes the environment of each peer from its lock, once."""

import hashlib
import subprocess
import sys
from pathlib import Path

#: As Easel's own; `make clean` removes what was made.
TORCH = "torch==2.13.0"
LOCKS = Path(__file__).parent
PLACE = Path(__file__).parents[2] / "build" / "peers"


def python_of(name: str) -> Path:
    """Give the interpreter of a peer's environment, which is made if it is not there, or not of this lock.

    Raises:
        subprocess.CalledProcessError: it cannot be made; its `install.log` says why.
    """
    folder, lock = PLACE / name, LOCKS / f"{name}.txt"
    python, made = folder / "bin" / "python", folder / "made-from"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not made.exists() or made.read_text() != digest:
        folder.mkdir(parents=True, exist_ok=True)
        with (PLACE / f"{name}.install.log").open("wb") as log:
            pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
            for command in (
                (sys.executable, "-m", "venv", "--clear", str(folder)),
                # Apart, as for Easel: each machine has its own right build of it.
                (*pip, TORCH),
                (*pip, "--require-hashes", "--requirement", str(lock)),
            ):
                subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
        made.write_text(digest)
    return python

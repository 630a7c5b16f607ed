"""How children are launched: bound to their parent's life, and PostgreSQL without root's rights."""

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from easel.embedded.failure import StackFailed

NOBODY = 65534


def bound_to_parent(death_signal: signal.Signals) -> list[str]:
    """Prefix a command so that the child gets a signal when this process dies, however it dies.

    Only Linux can do that, and only the death of the *thread* that launched counts: launch from the main thread.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", death_signal.name, "--"] if setpriv else []


@dataclass(frozen=True, kw_only=True)
class Demotion:
    """A way to run a server that refuses to run as root."""

    prefix: Sequence[str]
    #: Who must own its files for it to call them its own.
    owner: int

    def own(self, folder: Path) -> None:
        """Hand a folder over to the server, if an earlier run left it to somebody else."""
        if folder.exists() and folder.stat().st_uid != self.owner:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.owner, self.owner, follow_symlinks=False)


@functools.cache
def demotion(program: Path, folder: Path) -> Demotion:
    """Find the way to run a program that refuses to be root, with data in a folder.

    For root that is a user namespace, in which root is seen as nobody and files stay where and whose they are. Where
    containers refuse those, or the way to the folder is closed to all but another user, it is the user nobody with the
    right to pass everywhere.

    Raises:
        StackFailed: we are root, and this machine allows neither.
    """
    if os.geteuid() != 0:
        return Demotion(prefix=(), owner=os.geteuid())
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", "--")
    if _works(namespace, program, folder):
        return Demotion(prefix=namespace, owner=0)
    identity = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # The securebit: without it access(2), with which PostgreSQL looks at its own program, asks as nobody alone.
    rights = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    nobody = ("setpriv", *rights, *identity, "--")
    if _works(nobody, program, folder):
        return Demotion(prefix=nobody, owner=NOBODY)
    raise StackFailed(
        f"{program.name} refuses to run as root, and this machine lets root neither make a user namespace nor become "
        "another user: run this as an ordinary user"
    )


def _works(prefix: Sequence[str], program: Path, folder: Path) -> bool:
    """Whether a program can be run in this way and then reach a folder: tried, since rights have many sources."""
    attempt = [*prefix, "sh", "-c", 'ls "$1" && "$2" --version', "sh", str(folder), str(program)]
    try:
        outcome = subprocess.run(attempt, capture_output=True, check=False)  # noqa: S603
    except OSError:
        return False
    return outcome.returncode == 0

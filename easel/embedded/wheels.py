import shutil
import sysconfig
from pathlib import Path

from easel.embedded.failure import StackFailed


def script(name: str) -> Path:
    """Find a server that its wheel put beside Python, or else on the PATH.

    Raises:
        StackFailed: it is not installed.
    """
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise StackFailed(f"{name} is not installed here: pip install 'easel[local]'")
    return Path(found)

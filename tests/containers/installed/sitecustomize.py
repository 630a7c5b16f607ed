"""Makes Python behave as if nothing were installed but what an image's lock names; a test's room has it on its path.

`hidden.json` beside it lists the modules and distributions that are not to be found.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HIDDEN = json.loads((Path(__file__).parent / "hidden.json").read_text())
MODULES, DISTRIBUTIONS = frozenset(HIDDEN["modules"]), frozenset(HIDDEN["distributions"])


class Blinkered:
    """A finder that overlooks what is hidden, for `import`, `find_spec` and `importlib.metadata` alike."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, *arguments: Any) -> Any:
        return None if name.partition(".")[0] in MODULES else self._finder.find_spec(name, *arguments)

    def find_distributions(self, *arguments: Any) -> Iterator[Any]:
        found = getattr(self._finder, "find_distributions", lambda *_: ())(*arguments)
        return (one for one in found if one.name.lower().replace("_", "-") not in DISTRIBUTIONS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def _is_for_editing(finder: Any) -> bool:
    """Whether a finder leads to the checkout that is installed for editing, which no image has."""
    return str(getattr(finder, "__module__", "")).startswith("__editable__")


sys.meta_path[:] = [Blinkered(finder) for finder in sys.meta_path if not _is_for_editing(finder)]

"""Keeps runs of different code from being mixed in one folder."""

import hashlib
from pathlib import Path

#: All that decides what comes out, beside the libraries, is in this folder; and these are there, too, which do not.
SOURCES = Path(__file__).parent.parent
WITHOUT_EFFECT = frozenset({"evaluate.py", "sheet.py", "progress.py", "recipe.py", "__main__.py"})
RECIPE_FILE = "recipe"


class OtherRecipe(Exception):
    """The folder holds the work of other code; the message says what to do."""


def check(folder: Path, *, seed: int) -> None:
    """Remember in a folder what code and which seed it is worked on with.

    Raises:
        OtherRecipe: it was begun with others.
    """
    recipe = _fingerprint(seed)
    path = folder / RECIPE_FILE
    if path.is_file() and path.read_text() != recipe:
        raise OtherRecipe(
            f"{folder} was begun with other code or another seed: name an empty folder, "
            f"or remove {path} to go on with what is there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe)


def _fingerprint(seed: int) -> str:
    digest = hashlib.sha256(str(seed).encode())
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name not in WITHOUT_EFFECT:
            digest.update(path.read_bytes())
    return digest.hexdigest()

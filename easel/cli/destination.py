"""Where pictures go: what `--out` asks for, whether it can be had, and the path of each picture."""

import tempfile
from pathlib import Path

import typer

from easel.client import Generation, Preview

#: Where pictures go unless told otherwise.
DEFAULT_FOLDER = Path("out")

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def choose_format(out: Path | None, *, asked: str = "") -> str:
    """Return the file format: the one that was asked for, else what the suffix of a file says; empty when neither.

    Raises:
        typer.BadParameter: they contradict each other.
    """
    named = _FORMATS[out.suffix.lower()] if out is not None and names_a_picture(out) and not _is_folder(out) else ""
    if asked and named and asked != named:
        raise typer.BadParameter(f"{out} names a {named} file, and --format asks for {asked}", param_hint="--out")
    return asked or named


def names_a_picture(path: Path) -> bool:
    """Whether a path ends like the file of a picture."""
    return path.suffix.lower() in _FORMATS


def check(out: Path | None) -> None:
    """Make the folder of what is to be written, and try to write there.

    Raises:
        typer.BadParameter: nothing can be written there.
    """
    path = out or DEFAULT_FOLDER
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise typer.BadParameter(f"{path} is no file and no folder", param_hint="--out")
        if out is None or out.is_dir():
            _try(path, prefix=".")
        else:
            _try(path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--out") from error


def check_folder(folder: Path, *, option: str) -> None:
    """Make a folder, and try to write there.

    Raises:
        typer.BadParameter: nothing can be written there.
    """
    try:
        _try(folder, prefix=".")
    except OSError as error:
        raise typer.BadParameter(f"cannot write into {folder}: {error.strerror}", param_hint=option) from error


def place(generation: Generation, out: Path | None) -> tuple[Path, ...]:
    """Choose a path for each picture."""
    suffix = _SUFFIXES.get(generation.images[0].content_type, "") if generation.images else ""
    if out is None or out.is_dir():
        out = (out or DEFAULT_FOLDER) / f"{generation.id}{suffix}"
    if len(generation.images) == 1:
        return (out,)
    return tuple(out.with_stem(f"{out.stem}-{image.index}") for image in generation.images)


def place_preview(generation: Generation, preview: Preview, folder: Path) -> Path:
    """Choose a path for a preview."""
    suffix = _SUFFIXES.get(preview.content_type, "")
    return folder / f"{generation.id}-{preview.image_index}-{preview.step}{suffix}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the way there is closed, which `check` tells of
        return False


def _try(folder: Path, *, prefix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Named like the file that a download begins with, for a name that is too long shows only so.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, suffix=".part"):
        pass

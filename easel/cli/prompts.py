"""Several prompts out of a file."""

import sys
from pathlib import Path

import typer

STDIN = Path("-")
COMMENT = "#"


def read(file: Path) -> list[str]:
    """Read one prompt from each line of a file, or of standard input for `-`; skip blank lines and comments.

    Raises:
        typer.BadParameter: the file cannot be read, or has no prompts.
    """
    try:
        text = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        lines = text.decode("utf-8-sig").split("\n")  # splitlines() would cut prompts at U+2028 and its kin
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="--from") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8", param_hint="--from") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.strip().startswith(COMMENT)]
    if not prompts:
        raise typer.BadParameter(f"there are no prompts in {file}", param_hint="--from")
    return prompts

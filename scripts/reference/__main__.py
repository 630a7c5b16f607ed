"""`python -m scripts.reference FOLDER` writes the reference into a folder."""

import shutil
import sys
from pathlib import Path

from scripts.reference import api, commands, metrics, settings


def main(folder: Path) -> None:
    """Write all pages; those of files that are no more are removed."""
    shutil.rmtree(folder / "api", ignore_errors=True)
    pages = {f"api/{name}": text for name, text in api.pages().items()}
    pages |= {"settings.md": settings.page(), "metrics.md": metrics.page(), "cli.md": commands.page()}
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

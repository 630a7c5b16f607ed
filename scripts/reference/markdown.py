"""Markdown as code hosts render it."""

import re
from collections.abc import Iterable, Sequence


def page(title: str, *parts: str, source: str) -> str:
    """Put a page together; its first line says what it is made from."""
    return "\n\n".join([f"<!-- Made by `make reference` from {source}. -->", f"# {title}", *filter(None, parts)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table; cells may have paragraphs."""
    lines = [header, ["---"] * len(header), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Fit a text into a cell."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]
    return "<br><br>".join(paragraphs).replace("|", r"\|")


def code(text: object) -> str:
    """Show a text as code; nothing stays nothing."""
    return f"`{text}`" if str(text) else ""

from pathlib import Path

SHOWN_LINES = 12


class StackFailed(Exception):
    """The embedded stack could not do what it was asked; the message says what failed and which log to read."""

    @classmethod
    def of(cls, name: str, problem: str, *, log: Path, offset: int = 0) -> "StackFailed":
        """Say what failed, with the last lines that it logged after an offset in bytes."""
        lines = "".join(f"\n    {line}" for line in last_lines(log, offset=offset))
        return cls(f"{name} {problem}. Its log is {log}" + (f" and ends with:{lines}" if lines else "; it is empty."))


def last_lines(log: Path, *, offset: int = 0, count: int = SHOWN_LINES) -> list[str]:
    """Read the last lines of a log that are not empty."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

"""What `easel doctor` finds; its own checks, and those that the services make in processes of their own."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

#: What people understand where systems say "connection refused".
NOBODY_LISTENS = "nobody listens there"


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: There was nothing to check.
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    #: What was looked at.
    check: str
    verdict: Verdict
    #: What was seen, in a few words.
    found: str
    #: What to do about it.
    hint: str = ""

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            fields = json.loads(line)
            return cls(**fields | {"verdict": Verdict(fields["verdict"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{line!r} is no finding") from error

    def to_json(self) -> str:
        """Write it in one line."""
        return json.dumps(asdict(self))


def no_answer(seconds: float) -> str:
    """Say that something took too long."""
    return f"no answer within {seconds:g} s"


def report(findings: Iterable[Finding]) -> None:
    """Print findings for the one who started this process, a line for each."""
    for finding in findings:
        print(finding.to_json(), flush=True)

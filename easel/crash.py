"""Crash points: named places at which a process can be made to die, to prove that dying there costs nothing.

Nothing happens at any of them unless a test arms one, with `EASEL_TESTING=true EASEL_CRASH_AT=after_commit`.
"""

import os
import signal
from enum import StrEnum

from loguru import logger


class CrashPoint(StrEnum):
    """Where a process can die, in the order in which a request passes by."""

    #: Gateway: the requests of a batch are inserted, and not committed.
    BEFORE_COMMIT = "before_commit"
    #: Gateway: a request is committed, and not answered.
    AFTER_COMMIT = "after_commit"
    #: Gateway: hints are marked as published, and not published.
    AFTER_MARK = "after_mark"
    #: Gateway: a hint is published, and nothing is made of that yet.
    AFTER_PUBLISH = "after_publish"
    #: Gateway: a claim is granted and committed, and not answered.
    AFTER_CLAIM = "after_claim"
    #: Worker: a claim is granted, and its hint is not acknowledged.
    AFTER_GRANT = "after_grant"
    #: Worker: half of the steps are done.
    MID_DRAWING = "mid_drawing"
    #: Worker: the pictures are stored, and nobody was told.
    AFTER_PUT = "after_put"
    #: Worker: the stream has acknowledged the result.
    AFTER_RESULT = "after_result"
    #: Gateway: a result is committed, and neither announced nor acknowledged.
    AFTER_PROJECTION = "after_projection"


class _Armed:
    """The one point at which this process is to die: it has one life, so this is its state, and nobody's object."""

    point: CrashPoint | None = None


def arm(point: CrashPoint | None) -> None:
    """Have this process die when it next comes to a point; None disarms."""
    _Armed.point = point


def reach(point: CrashPoint) -> None:
    """Die here, as by kill -9, if this is the point."""
    if _Armed.point == point:
        logger.critical("crashing at {}, as the settings say", point, action="crash")
        logger.complete()
        os.kill(os.getpid(), signal.SIGKILL)

"""Why attempts fail, and what is done about it: the one table that workers and gateways go by."""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from easel.v1.generation_pb2 import Failure, FailureReason


class Remedy(enum.Enum):
    """What is done about an attempt that failed."""

    #: Nothing: it would fail in the same way again, so its generation FAILED with it.
    NONE = "fails at once"
    #: It is drawn again, after a wait and alone; if that does not help it becomes a dead letter.
    RETRY = "is retried a few times, then a dead letter"
    #: It says nothing against the request, which is drawn again, after a wait, for as long as it takes.
    PERSIST = "is retried for as long as it takes"


#: `FAILURE_REASON_UNSPECIFIED` is not in it: that is all that older workers say of some failures.
REMEDIES: "Mapping[FailureReason.ValueType, Remedy]" = MappingProxyType(
    {
        FailureReason.FAILURE_REASON_MODEL_ERROR: Remedy.NONE,
        FailureReason.FAILURE_REASON_OUT_OF_MEMORY: Remedy.NONE,
        FailureReason.FAILURE_REASON_INVALID_OUTPUT: Remedy.NONE,
        FailureReason.FAILURE_REASON_ENCODING: Remedy.NONE,
        FailureReason.FAILURE_REASON_STORAGE: Remedy.PERSIST,
        FailureReason.FAILURE_REASON_INTERNAL: Remedy.RETRY,
        # What a retry comes to in the end. No attempt fails with it.
        FailureReason.FAILURE_REASON_DEAD_LETTER: Remedy.NONE,
    }
)


def make_failure(reason: "FailureReason.ValueType", message: str) -> Failure:
    """Say how an attempt failed, and whether it is worth a retry."""
    return Failure(reason=reason, message=message, retryable=REMEDIES[reason] is not Remedy.NONE)


def remedy_of(failure: Failure) -> Remedy:
    """Tell what is done about a failure.

    Its worker may know better than the table, and older and newer workers have reasons that are not in it: what they
    say is worth a retry gets one.
    """
    remedy = REMEDIES.get(failure.reason, Remedy.NONE)
    return Remedy.RETRY if remedy is Remedy.NONE and failure.retryable else remedy

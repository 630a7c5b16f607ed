"""Says in the engine's words why a request failed."""

from easel.logs import without_message
from inference.engine.adapter import InvalidOutput, OutOfMemory
from inference.engine.engine import Failed, FailureKind

#: Of what a library says, one line, and at most so much of it.
MAX_MESSAGE_CHARACTERS = 300


def failed(error: Exception) -> Failed:
    """Make the last event of a request out of the error that ended it."""
    match error:
        case OutOfMemory() | MemoryError():
            return Failed(kind=FailureKind.OUT_OF_MEMORY, message=_sentence(error, "the device ran out of memory"))
        case InvalidOutput():
            return Failed(kind=FailureKind.INVALID_OUTPUT, message=_sentence(error, "the picture is not a number"))
    message = f"{type(error).__name__}: {_sentence(error, '')}"
    return Failed(kind=FailureKind.MODEL_ERROR, message=message, error=without_message(error))


def _sentence(error: Exception, otherwise: str) -> str:
    return str(error).strip().split("\n")[0][:MAX_MESSAGE_CHARACTERS] or otherwise

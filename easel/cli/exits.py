"""How commands end: their exit statuses, and one line on standard error for what went wrong."""

import sys

#: The picture did not come about, or did not arrive.
NO_PICTURE = 1
#: Wrong arguments, or a request that the service refused.
BAD_REQUEST = 2
#: The service is out of reach, or takes no more at present.
UNAVAILABLE = 3
#: Ctrl-C.
INTERRUPTED = 130
#: SIGTERM, as the shell counts it.
TERMINATED = 143


def complain(message: str) -> None:
    """Print one line on standard error."""
    line = " ".join(message.split())
    print("easel:", "".join(each if each.isprintable() else "\ufffd" for each in line), file=sys.stderr)

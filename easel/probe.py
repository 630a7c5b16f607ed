"""Ask the service on this machine how it is, as a container's healthcheck does: `python -m easel.probe /readyz`.

It imports nothing but the standard library, since it is started every few seconds.
"""

import http.client
import os
import sys

USAGE = "usage: python -m easel.probe PATH (the address comes from EASEL_METRICS_LISTEN)"
ANSWER_TIMEOUT_SECONDS = 3.0
#: Where to ask one that listens on all addresses.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # nothing is bound here


def main(arguments: list[str]) -> int:
    """Return 0 if the service answers with 200, 1 if it does not, and 2 if nobody can be asked."""
    host, _, port = os.environ.get("EASEL_METRICS_LISTEN", "").rpartition(":")
    if len(arguments) != 1 or not host or not port.isdecimal():
        print(USAGE, file=sys.stderr)
        return 2
    connection = http.client.HTTPConnection(f"{LOOPBACK.get(host, host)}:{port}", timeout=ANSWER_TIMEOUT_SECONDS)
    try:
        connection.request("GET", arguments[0])
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        connection.close()
    print(answer.status, answer.reason)
    print(body)
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

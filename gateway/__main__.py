"""The gateway as a process: `python -m gateway` serves, `python -m gateway migrate` brings the schema up to date."""

import asyncio
import sys

import uvloop
from loguru import logger

from easel.settings import Misconfigured
from gateway.bootstrap import serve
from gateway.errors import DatabaseUnavailable
from gateway.record import schema
from gateway.settings import GatewaySettings

USAGE = "usage: python -m gateway [migrate]"


def main(arguments: list[str]) -> int:
    """Run the gateway and return the exit status."""
    if arguments not in ([], ["migrate"]):
        print(USAGE, file=sys.stderr)
        return 2
    settings = GatewaySettings.read()
    try:
        settings.configure_logs(service="gateway")
        settings.arm_crash_point()
        close_exporters = settings.start_exporters(service="gateway")
        try:
            return _run(settings, migrate=bool(arguments))
        finally:
            close_exporters()
    except Misconfigured as error:
        settings.refuse(error)
        return 2


def _run(settings: GatewaySettings, *, migrate: bool) -> int:
    try:
        if migrate:
            schema.migrate(settings.database_url.get_secret_value())
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(settings))
    except Misconfigured:
        raise
    except (DatabaseUnavailable, OSError, ValueError) as error:
        logger.error("{}", error, action="failed")
        return 1
    except Exception:  # noqa: BLE001  # caught here, since after this nothing is sent to Sentry any more
        logger.exception("a defect ended the gateway", action="defect")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

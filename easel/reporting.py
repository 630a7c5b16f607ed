"""Errors sent to Sentry; off until a DSN is given.

What is logged as an error is sent, with its traceback, the service's version, and the id of the generation that it is
about. Neither the values of variables nor the messages of exceptions go along, nor what libraries log: a prompt may
stand in them.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loguru import logger

from easel import __version__
from easel.logs import CONTEXT_FIELDS, Redacted

if TYPE_CHECKING:
    from loguru import Message

#: So long the last reports of a process may take to be sent when it ends.
FLUSH_TIMEOUT_SECONDS = 3.0


class ReportingUnavailable(Exception):
    """What sends errors is not installed, or the DSN is none."""


def configure(dsn: str, *, service: str, environment: str) -> Callable[[], None]:
    """Send what this process logs as an error from now on; logs have to be configured before.

    Args:
        dsn: Where to, and with which key.
        service: Who reports.
        environment: Such as `production`.

    Returns:
        What is to be called at the end, on a thread that may wait: it sends what is left.

    Raises:
        ReportingUnavailable: Sentry's SDK is not installed, or the DSN is none.
    """
    try:
        import sentry_sdk  # noqa: PLC0415  # a tenth of a second
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ImportError as error:
        raise ReportingUnavailable("Sentry's SDK is not installed: pip install 'easel[exporters]'") from error
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=f"easel@{__version__}",
            environment=environment,
            server_name=service,
            # Each of these would see more than is to be sent.
            default_integrations=False,
            auto_enabling_integrations=False,
            max_breadcrumbs=0,
            include_local_variables=False,
            include_source_context=False,
            send_default_pii=False,
            before_send=_scrub,
        )
    except BadDsn as error:
        raise ReportingUnavailable(f"it is no DSN: {error}") from error

    def report(message: "Message") -> None:
        record = message.record
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("service", service)
            for name in (*CONTEXT_FIELDS, "action"):
                if (value := record["extra"].get(name, "-")) != "-":
                    scope.set_tag(name, value)
            scope.set_extra("logger", record["name"])
            error = record["exception"]
            if error is not None and error.value is not None:
                sentry_sdk.capture_exception(error.value)
            elif "action" in record["extra"]:
                sentry_sdk.capture_message(record["message"], level="error")
            else:
                # A library's own words, which may quote an exception.
                sentry_sdk.capture_message(f"an error in {record['name']}", level="error")

    logger.add(report, level=logging.ERROR, format="{message}", backtrace=False, diagnose=False, catch=True)
    return lambda: sentry_sdk.flush(FLUSH_TIMEOUT_SECONDS)


def _scrub(event: Any, _hint: Any) -> Any:
    """Take out what an exception says: that may be the model's own words about a prompt."""
    for exception in event.get("exception", {}).get("values", ()):
        if exception["type"] != Redacted.__name__:
            exception["value"] = ""
    return event

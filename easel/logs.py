"""Logging: loguru everywhere, standard logging led into it, and what a line is about on every line."""

import json
import logging
import os
import sys
import threading
import traceback
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

LogFormat = Literal["human", "json"]

#: What every line carries; `-` where it does not apply.
CONTEXT_FIELDS = ("request_id", "generation_id", "attempt")

_context: ContextVar[dict[str, object] | None] = ContextVar("log_context", default=None)


def configure(
    *,
    service: str,
    level: str = "INFO",
    log_format: LogFormat = "human",
    sink: TextIO | Path | None = None,
    rotation: str = "",
    retention: str = "",
) -> None:
    """Send every log line of this process, loguru's and standard logging's, to one sink.

    Tracebacks come without the values of variables, among which prompts and secrets would be.

    Args:
        service: Who logs.
        level: The least level.
        log_format: For people or for collectors.
        sink: A stream, or a file, which is appended to; standard error by default.
        rotation: When a new file is begun, in loguru's words such as `100 MB` or `1 day`; never when empty.
        retention: How long old files are kept, such as `7 days`, or how many; for ever when empty.

    Raises:
        OSError: the file cannot be written.
    """
    logger.remove()
    logger.configure(extra={"service": service}, patcher=_add_context)
    line = _json_format if log_format == "json" else _human_format
    if isinstance(sink, Path):
        logger.add(
            sink,
            level=level,
            format=line,
            backtrace=False,
            diagnose=False,
            rotation=rotation or None,
            retention=_read_retention(retention),
        )
    else:
        logger.add(sink or sys.stderr, level=level, format=line, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=0, force=True)
    for noisy in ("asyncio", "urllib3", "grpc", "httpx2", "httpcore2", "filelock", "PIL", "huggingface_hub", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def take_over() -> None:
    """Log warnings, too, and what nobody catches on any thread; for processes that are a service and nothing else."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def check_rotation(rotation: str) -> None:
    """Check a rotation before it is used.

    Raises:
        ValueError: loguru does not know what it means.
    """
    _try_file(rotation=rotation or None)


def check_retention(retention: str) -> None:
    """Check a retention before it is used.

    Raises:
        ValueError: loguru does not know what it means.
    """
    _try_file(retention=_read_retention(retention))


def annotate(**fields: object) -> None:
    """Put fields, such as `generation_id`, on every later line of the current task.

    They are set and never reset: each RPC and each attempt runs in a task, and so in a context, of its own, and an
    async generator may be finished in another context than the one it began in, where a reset would raise.
    """
    _context.set({**(_context.get() or {}), **fields})


class Redacted(Exception):
    """Stands in for an error whose message may quote a prompt; says of which type it was."""


def without_message(error: BaseException) -> BaseException:
    """Stand in for an error with its traceback alone, where a prompt may stand in the message."""
    return Redacted(f"{type(error).__name__} (the client got its message)").with_traceback(error.__traceback__)


def _add_context(record: "Record") -> None:
    for name in CONTEXT_FIELDS:
        record["extra"].setdefault(name, "-")
    for name, value in (_context.get() or {}).items():
        if record["extra"].get(name, "-") == "-":
            record["extra"][name] = value


def _human_format(record: "Record") -> str:
    names = [name for name in record["extra"] if name != "service" and name.isidentifier()]
    about = "".join(f" {name}={{extra[{name}]}}" for name in names)
    return f"{{time:YYYY-MM-DD HH:mm:ss.SSS}} {{level: <7}} {{extra[service]}} {{message}}{about}\n{{exception}}"


def _json_format(record: "Record") -> str:
    line: dict[str, object] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **record["extra"],
        "logger": record["name"],
    }
    if record["exception"] is not None:
        line["exception"] = "".join(traceback.format_exception(*record["exception"])).strip()
    # What a format function returns is a template, in which braces and tags have a meaning; what it inserts has none.
    record["extra"]["json"] = json.dumps(line, default=str)
    return "{extra[json]}\n"


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, (KeyboardInterrupt, SystemExit)):
        return
    logger.opt(exception=(kind, error, trace)).critical("nobody caught a {}", kind.__name__, action="defect")


def _read_retention(retention: str) -> str | int | None:
    return int(retention) if retention.isdecimal() else retention or None


def _try_file(*, rotation: str | None = None, retention: str | int | None = None) -> None:
    """Have loguru read its own syntax; no file is opened, and below the null device there is none to be removed."""
    logger.remove(logger.add(Path(os.devnull) / "log", delay=True, rotation=rotation, retention=retention))


class _Intercept(logging.Handler):
    """Hands records of standard logging to loguru, as loguru's documentation advises."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        # Up through the frames of standard logging to the one that called it.
        frame, depth = sys._getframe(), 0  # noqa: SLF001  # as standard logging itself finds its caller
        while frame.f_back and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame = frame.f_back
            depth += 1
        logger.opt(depth=depth, exception=record.exc_info).log(level, "{}", record.getMessage())

"""Logging: loguru everywhere, standard logging led into it, and what a line is about on every line."""

import json
import logging
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TextIO

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

LogFormat = Literal["human", "json"]

#: What every line carries; `-` where it does not apply.
CONTEXT_FIELDS = ("request_id", "generation_id", "attempt")

_context: ContextVar[dict[str, object] | None] = ContextVar("log_context", default=None)


def configure(
    *, service: str, level: str = "INFO", log_format: LogFormat = "human", sink: TextIO | None = None
) -> None:
    """Send every log line of this process, loguru's and standard logging's, to one sink, standard error by default.

    Tracebacks come without the values of variables, among which prompts and secrets would be.
    """
    target = sink or sys.stderr
    logger.remove()
    logger.configure(extra={"service": service}, patcher=_add_context)
    if log_format == "json":
        logger.add(
            lambda line: _write_json(target, line), level=level, format="{message}", backtrace=False, diagnose=False
        )
    else:
        logger.add(target, level=level, format=_human_format, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=0, force=True)
    for noisy in ("asyncio", "urllib3", "grpc", "httpx2", "httpcore2", "filelock", "PIL", "huggingface_hub", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def annotate(**fields: object) -> None:
    """Put fields, such as `generation_id`, on every later line of the current task.

    They are set and never reset: each RPC and each attempt runs in a task, and so in a context, of its own, and an
    async generator may be finished in another context than the one it began in, where a reset would raise.
    """
    _context.set({**(_context.get() or {}), **fields})


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


def _write_json(target: TextIO, message: Any) -> None:
    record: Record = message.record
    line: dict[str, object] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **record["extra"],
        "logger": record["name"],
    }
    if record["exception"] is not None:
        line["exception"] = str(message).removeprefix(record["message"]).strip()
    target.write(json.dumps(line, default=str) + "\n")
    target.flush()


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

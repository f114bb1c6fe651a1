"""Logs by structlog: readable in development, JSON in production, those of libraries too."""

import logging
import sys
import time
import traceback

from asgi_correlation_id import correlation_id
from structlog import contextvars, dev, processors, stdlib
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from .settings import Settings


def configure_logging(settings: Settings) -> None:
    """Give every line of this process one format, unless its root logger has a handler already."""
    json = settings.environment == "production"
    chain: list[Processor] = [
        contextvars.merge_contextvars,
        stdlib.add_log_level,
        stdlib.add_logger_name,
        processors.TimeStamper(fmt="iso"),
        _complete,
        processors.ExceptionRenderer(_traceback),
        stdlib.ProcessorFormatter.remove_processors_meta,
        processors.JSONRenderer() if json else dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(stdlib.ProcessorFormatter(processors=chain, pass_foreign_args=True))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.propagate |= logger.hasHandlers()  # it has none with --no-access-log
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)


def _complete(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    if request_id := correlation_id.get():
        line["request_id"] = request_id
    if begun := line.pop("begun", None):
        line["duration"] = round(time.perf_counter() - begun, 6)
    arguments = line.pop("positional_args", ())
    if line["logger"] == "uvicorn.access":
        _, method, target, _, status = arguments
        path = target.partition("?")[0]  # a query may hold an address
        line.update(event="request", method=method, path=path, status=status)
{% if cookiecutter.__celery %}
    elif "message body" in line["event"]:  # of a message that the worker refuses
        line["event"] = line["_record"].msg.partition("%")[0]
{% endif %}
    return line


def _traceback(exc_info: ExcInfo) -> str:
    """Return a traceback; above ``DEBUG`` without the texts of errors, which quote addresses."""
    if logging.root.isEnabledFor(logging.DEBUG):
        return "".join(traceback.format_exception(exc_info[1]))
    return f"Traceback (most recent call last):\n{_frames(exc_info[1])}"


def _frames(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    before = f"{_frames(cause)}\n" if cause else ""
    return before + "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__

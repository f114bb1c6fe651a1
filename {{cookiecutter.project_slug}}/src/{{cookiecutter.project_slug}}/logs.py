"""Logs by structlog: readable in development, JSON in production, those of libraries too."""

import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any, cast

from asgi_correlation_id import correlation_id
from structlog import contextvars, dev, processors

from .settings import Settings


class Formatter(logging.Formatter):
    """What structlog makes of a line: the event, and the keys bound to the context."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        colors = sys.stderr.isatty()
        self._render = processors.JSONRenderer() if json else dev.ConsoleRenderer(colors=colors)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, as JSON or for people."""
        line: dict[str, Any] = {"event": record.getMessage(), **contextvars.get_contextvars()}
        line["level"] = record.levelname.lower()
        line["logger"] = record.name
        line["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        if request_id := correlation_id.get():
            line["request_id"] = request_id
        if begun := line.pop("begun", None):
            line["duration"] = round(time.perf_counter() - begun, 6)
        if record.name == "uvicorn.access":
            _, method, target, _, status = cast("tuple[Any, ...]", record.args)
            path = target.partition("?")[0]  # a query may hold an address
            line.update(event="request", method=method, path=path, status=status)
        if record.exc_info and (error := record.exc_info[1]):
            line["exception"] = _traceback(error)
        return str(self._render(None, "", line))


def configure_logging(settings: Settings) -> None:
    """Give every line of this process one format, unless its root logger has a handler already."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(json=settings.environment == "production"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.propagate |= logger.hasHandlers()  # it has none with --no-access-log
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)


def _traceback(error: BaseException) -> str:
    """Return a traceback; above ``DEBUG`` without the texts of errors, which quote addresses."""
    if logging.root.isEnabledFor(logging.DEBUG):
        return "".join(traceback.format_exception(error))
    return f"Traceback (most recent call last):\n{_frames(error)}"


def _frames(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    before = f"{_frames(cause)}\n" if cause else ""
    return before + "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__

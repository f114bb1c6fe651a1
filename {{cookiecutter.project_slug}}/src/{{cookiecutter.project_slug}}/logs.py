"""Logs by structlog: readable in development, JSON in production, those of libraries too."""

import logging
import re
import sys
import textwrap
import time
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from asgi_correlation_id import correlation_id
from structlog import contextvars, dev, processors, stdlib

from .settings import Settings

# Not fields of a line: what every record has, and what is added for other formatters.
RECORD_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
{% if cookiecutter.__celery %}
RECORD_ATTRIBUTES.add("data")  # Celery's: the arguments of a task, which may hold an address
{% endif %}


class Formatter(logging.Formatter):
    """Renders a record with structlog: its message and fields, and those of the context."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        colors = bool(sys.stderr and sys.stderr.isatty())  # a daemon may have closed it
        as_json = processors.JSONRenderer(allow_nan=False)
        self._render = as_json if json else dev.ConsoleRenderer(colors=colors)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, as JSON or for people."""
        line: dict[str, Any] = {"event": "", **contextvars.get_contextvars()}
        if begun := line.pop("begun", None):
            line["duration"] = round(time.perf_counter() - begun, 6)
        fields = vars(record)
        line |= {name: fields[name] for name in fields if name not in RECORD_ATTRIBUTES}
        line |= line.pop("_structlog", {})
        line["event"] = record.getMessage().rstrip()  # warnings and uvicorn's errors end the line
        line["level"] = record.levelname.lower()
        line["logger"] = record.name
        line["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        if request_id := correlation_id.get():
            line["request_id"] = request_id
        if record.name == "uvicorn.access":
            _, method, target, _, status = cast("tuple[Any, ...]", record.args)
            path = target.partition("?")[0]  # a query may hold an address
            line.update(event="request", method=method, path=path, status=status)
        if record.name == "uvicorn.error":  # a WebSocket's request
            line["event"] = re.sub(r'("WebSocket [^?]*)\?.*"', r'\1"', line["event"])
        if record.exc_info and (error := record.exc_info[1]):
            line["exception"] = _traceback(error)
            if record.name == "asyncio":  # it quotes the error of a forgotten task further on
                line["event"] = line["event"].partition("\n")[0]
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return str(self._render(None, "", line))
        except (TypeError, ValueError):  # what JSON can't hold: NaN, a cycle, a key that is no text
            return str(self._render(None, "", {name: str(line[name]) for name in line}))


def configure_logging(settings: Settings) -> None:
    """Give every line of this process one format, unless its root logger has a handler already.

    It does not matter whether ``logging`` or ``structlog.get_logger()`` wrote it.
    """
    structlog.configure([_to_logging], logger_factory=stdlib.LoggerFactory())
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(json=settings.environment == "production"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.propagate |= logger.hasHandlers()  # it has none with --no-access-log
        logger.handlers.clear()
        logger.setLevel(max(logging.INFO, logging.root.level))  # DEBUG has WebSockets' headers


def _to_logging(logger: Any, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    call = stdlib.render_to_log_kwargs(logger, method, event)
    # In one key, as logging refuses those that its records have: name, for one.
    return {**call, "extra": {"_structlog": call["extra"]}}


def _traceback(error: BaseException) -> str:
    """Return a traceback; above ``DEBUG`` without the texts of errors, which quote addresses."""
    if logging.root.isEnabledFor(logging.DEBUG):
        return "".join(traceback.format_exception(error))
    return f"Traceback (most recent call last):\n{_frames(error)}: LOG_LEVEL=DEBUG shows its text"


def _frames(error: BaseException, *above: BaseException) -> str:
    above += (error,)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_frames(cause, *above)}\n" if cause and cause not in above else ""
    text = before + "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            text += "\n" + textwrap.indent(_frames(each, *above), "  | ")
    return text

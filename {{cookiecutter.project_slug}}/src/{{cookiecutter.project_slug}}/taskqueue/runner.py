"""Runs a task once, and says what is to become of it; the same for every backend."""

import asyncio
import inspect
import json
import logging
import uuid
from contextvars import ContextVar
from typing import Literal, NamedTuple

from asgi_correlation_id import correlation_id

from .task import REGISTRY, Call

logger = logging.getLogger(__name__)

_task_id: ContextVar[str] = ContextVar("task_id")


def current_task_id() -> str:
    """Return the id of the task that is running, the same on every attempt.

    Outside a task (a test that calls the function directly) it is a new one.
    """
    return _task_id.get(None) or uuid.uuid4().hex


class Outcome(NamedTuple):
    """How an attempt ended."""

    status: Literal["succeeded", "retrying", "failed"]
    error: str | None = None
    retry_in: float | None = None  # seconds


def attempt(call: Call, number: int) -> Outcome:
    """Run the task of a call, for the ``number``-th time; an ``async`` one on a loop of its own.

    Raises SystemExit where the task, or the end of its process, does.
    """
    token = _task_id.set(call.task_id)
    correlation_id.set(call.request_id)
    try:
        result = REGISTRY[call.name].function(**json.loads(call.arguments))
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except Exception as error:
        return _retry_or_fail(call, number, error)
    finally:
        _task_id.reset(token)
    return Outcome("succeeded")


def after_death(call: Call, number: int) -> Outcome:
    """Tell what follows when the process died in the ``number``-th run of the task."""
    return _retry_or_fail(call, number, None)


def _retry_or_fail(call: Call, number: int, error: Exception | None) -> Outcome:
    text = f"{type(error).__name__}: {error}" if error else "its process died"
    text = text.encode(errors="replace").decode()[:1000]  # what every store can take
    task = REGISTRY.get(call.name)  # one may be left from before it was renamed
    if task and number < task.max_attempts and (not error or isinstance(error, task.retry_on)):
        delay = task.retry_delay(number)
        logger.warning("task %s (%s): %s; next in %.1f s", call.task_id, call.name, text, delay)
        return Outcome("retrying", text, delay)
    logger.error("task %s (%s) failed: %s", call.task_id, call.name, text, exc_info=error)
    return Outcome("failed", text)

"""Runs a task once, and says what is to become of it; the same for every backend."""

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Literal, NamedTuple

from asgi_correlation_id import correlation_id
from structlog.contextvars import bind_contextvars

from ..metrics import ATTEMPTS, DURATION
from .task import REGISTRY, Call, new_id

logger = logging.getLogger(__name__)

_task_id: ContextVar[str] = ContextVar("task_id")


def current_task_id() -> str:
    """Return the id of the task that is running, the same on every attempt.

    Outside a task (a test that calls the function directly) it is a new one.
    """
    return _task_id.get(None) or new_id()


class Outcome(NamedTuple):
    """How an attempt ended."""

    status: Literal["succeeded", "retrying", "failed"]
    error: str | None = None
    retry_in: float | None = None  # seconds


def attempt(call: Call, number: int) -> Outcome:
    """Run the task of a call, for the ``number``-th time; an ``async`` one on a loop of its own.

    Raises SystemExit where the task, or the end of its process, does.
    """
    return copy_context().run(_attempt, call, number, _run)


def after_death(call: Call, number: int) -> Outcome:
    """Tell what follows when the process died in the ``number``-th run of the task."""
    return copy_context().run(_attempt, call, number, _retry_or_fail)


def _attempt(call: Call, number: int, end: Callable[[Call, int], Outcome]) -> Outcome:
    # In a context of its own: what a task adds to its log lines is not in the next one's.
    _task_id.set(call.task_id)
    correlation_id.set(call.request_id)
    begun = time.perf_counter()
    bind_contextvars(task=call.name, task_id=call.task_id, attempt=number, begun=begun)
    outcome = end(call, number)
    ATTEMPTS.labels(call.name, outcome.status).inc()
    return outcome


def _run(call: Call, number: int) -> Outcome:
    try:
        with DURATION.labels(call.name).time():
            result = REGISTRY[call.name].function(**json.loads(call.arguments))
            if inspect.iscoroutine(result):
                asyncio.run(result)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # CancelledError is one that is no Exception
        return _retry_or_fail(call, number, error)
    logger.info("task succeeded")
    return Outcome("succeeded")


def _retry_or_fail(call: Call, number: int, error: BaseException | None = None) -> Outcome:
    text = kind = type(error).__name__ if error else "its process died"
    if error:
        with suppress(Exception):  # of an error that fails to tell its text
            text += f": {error}"
    # What every store can take.
    text = text.encode(errors="replace").decode().replace("\0", "?")[:1000]
    task = REGISTRY.get(call.name)  # one may be left from before it was renamed
    if task and number < task.max_attempts and (not error or isinstance(error, task.retry_on)):
        delay = task.retry_delay(number)
        logger.warning("task retries in %.1f s: %s", delay, kind)  # a text may hold an address
        return Outcome("retrying", text, delay)
    logger.error("task failed: %s", kind, exc_info=error)
    return Outcome("failed", text)

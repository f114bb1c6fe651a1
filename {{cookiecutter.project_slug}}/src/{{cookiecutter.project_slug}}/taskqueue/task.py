"""How a task is written, stored, run and reported; the same for every backend."""

import asyncio
import contextlib
import inspect
import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

from asgi_correlation_id import correlation_id
from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict
from structlog.contextvars import bind_contextvars

from ..metrics import ATTEMPTS, DURATION

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
DIED = "its process died"
REGISTRY: dict[str, "Task[..., Any]"] = {}
_task_id: ContextVar[str] = ContextVar("task_id")
_added: ContextVar[list["Call"]] = ContextVar("added")  # by the task that is running


class Unavailable(HTTPException):
    """A task could not be stored, or its status not be read: a 503 that says why.

    It asks the client to come back, in seconds (RFC 9110, section 15.6.4).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(503, reason, headers={"Retry-After": "5"})


class TaskStatus(BaseModel):
    """What is known of one task; times are in UTC."""

    # Every answer has all fields, and generated clients need not ask whether it has.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    task_id: str
    name: str
    status: Literal["queued", "running", "retrying", "succeeded", "failed"]
    attempts: int = 0
    error: str | None = None
    enqueued_at: datetime
    finished_at: datetime | None = None


@dataclass(eq=False)
class Task(Generic[P, R]):
    """A function that runs after the response; called directly, it is that function."""

    function: Callable[P, R]
    retry_on: tuple[type[Exception], ...]
    max_attempts: int
    backoff: float  # seconds
    max_backoff: float  # seconds

    def __post_init__(self) -> None:
        self.name = self.function.__name__  # by which it is stored
        self.signature = inspect.signature(self.function)
        if self.name in REGISTRY:
            raise ValueError(f"two tasks are called {self.name!r}")
        if not all(p.kind in BY_NAME for p in self.signature.parameters.values()):
            raise TypeError(f"{self.name}: a task's arguments are stored by name: no *, ** or /")
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise TypeError(f"{self.name}: a task does not yield: nobody would run it")
        REGISTRY[self.name] = self
        for outcome in ("succeeded", "retrying", "failed"):
            ATTEMPTS.labels(self.name, outcome)  # from zero, so that the first one is an increase

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def retry_delay(self, attempts: int) -> float:
        """Return the seconds to wait after so many failed attempts.

        Exponential, at most ``max_backoff``, and drawn from its upper half, so that tasks which
        failed together do not come back together.
        """
        doublings = min(attempts - 1, 1000)  # more are too many for a float
        longest = min(self.max_backoff, self.backoff * 2.0**doublings)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311, it guards no secret


def task(
    *,
    retry_on: Iterable[type[Exception]] = (),
    max_attempts: int = 5,
    backoff: float = 1.0,
    max_backoff: float = 300.0,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task, known by the function's name.

    ``retry_on`` are the errors that may heal by themselves: the task is tried again up to
    ``max_attempts`` times in all, ``backoff`` seconds after the first failure and twice as long
    after each further one, up to ``max_backoff``. Any other error fails the task at once.
    A task whose process died is tried again too, so it must bear being run twice.
    """
    return lambda function: Task(function, tuple(retry_on), max_attempts, backoff, max_backoff)


def new_id() -> str:
    """Return an id that is ordered by time, so that a database appends where it would seek.

    As UUIDv7 has it (RFC 9562, section 5.7), without its marks.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Call(NamedTuple):
    """One call of a task, ready to be stored."""

    name: str
    arguments: str  # JSON, so that what can't be stored fails in the endpoint
    request_id: str  # of the request that enqueued it
    task_id: str
    enqueued_at: float  # seconds since the epoch

    @classmethod
    def of(cls, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "Call":
        """Raises TypeError, or ValueError, for arguments that do not fit the task or are no JSON.

        And for a plain function, which is no task.
        """
        if not isinstance(task, Task):  # FastAPI's own takes one
            raise TypeError(f"{task!r} is no task: decorate it with @task()")
        arguments = json.dumps(task.signature.bind(*args, **kwargs).arguments, allow_nan=False)
        return cls(task.name, arguments, correlation_id.get() or "", new_id(), time.time())


def current_task_id() -> str:
    """Return the id of the task that is running, the same on every attempt.

    Outside a task (a test that calls the function directly) it is a new one.
    """
    return _task_id.get(None) or new_id()


def add_task(task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str:
    """In a task, have ``task`` run once this one has succeeded; returns its id.

    Raises as ``Call.of`` does; RuntimeError where no task is running, as in an endpoint.
    """
    added = _added.get(None)
    if added is None:
        raise RuntimeError("add_task() is for tasks: an endpoint takes a TaskQueue")
    call = Call.of(task, *args, **kwargs)
    added.append(call)
    return call.task_id


class Outcome(NamedTuple):
    """How an attempt ended."""

    status: Literal["succeeded", "retrying", "failed"]
    error: str | None = None
    retry_in: float | None = None  # seconds
    added: Sequence[Call] = ()  # by the task


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
    with contextlib.suppress(OSError):  # their folder was removed, but the task is not to be lost
        ATTEMPTS.labels(call.name, outcome.status).inc()
        if end is _run:
            DURATION.labels(call.name).observe(time.perf_counter() - begun)
    return outcome


def _run(call: Call, number: int) -> Outcome:
    added: list[Call] = []
    _added.set(added)
    try:
        result = REGISTRY[call.name].function(**json.loads(call.arguments))
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as error:  # CancelledError is one that is no Exception
        # Those end the process; but what is an Exception too, the task alone.
        if isinstance(error, SystemExit | KeyboardInterrupt) and not isinstance(error, Exception):
            raise
        return _retry_or_fail(call, number, error)
    logger.info("task succeeded")
    return Outcome("succeeded", added=added)


def _retry_or_fail(call: Call, number: int, error: BaseException | None = None) -> Outcome:
    text = kind = type(error).__name__ if error else DIED
    if error:
        with contextlib.suppress(Exception):  # of an error that fails to tell its text
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

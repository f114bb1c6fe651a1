"""How a task is written, called and tried again; the same for every backend."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, assert_type

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from {{ cookiecutter.project_slug }}.taskqueue import add_task, current_task_id, task
from {{ cookiecutter.project_slug }}.taskqueue.queue import PendingTasks
from {{ cookiecutter.project_slug }}.taskqueue.task import Call, attempt

ids: list[str] = []


@task(retry_on=[OSError], max_attempts=10_000, backoff=2, max_backoff=100)
def unlucky(self: str, task: str) -> None:
    ids.append(current_task_id())
    raise OSError


@task()
async def length(text: str) -> int:
    return len(text)


@task()
async def parent(*, fails: bool) -> None:
    ids.append(add_task(length, text="Lamp"))
    if fails:
        raise ValueError


class PassedByAsyncio(Exception, KeyboardInterrupt): ...


@task()
async def ended(error: str) -> None:
    kinds = {"exit": SystemExit, "stop": KeyboardInterrupt, "cancel": asyncio.CancelledError}
    raise kinds.get(error, PassedByAsyncio)


def generator() -> Iterator[None]:
    yield


async def async_generator() -> AsyncIterator[None]:
    yield


def collector(*names: str) -> None: ...


def test_a_task_that_is_called_is_its_function_to_type_checkers_too() -> None:
    assert assert_type(asyncio.run(length("Lamp")), int) == 4


def test_a_call_has_its_arguments_by_name_and_the_id_that_the_endpoint_got() -> None:
    pending = PendingTasks()
    task_id = pending.add_task(unlucky, "a", task="b")
    (call,) = pending.calls
    assert (call.task_id, call.arguments) == (task_id, '{"self": "a", "task": "b"}')


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["a"], TypeError), (["a", b"b"], TypeError), (["a", float("nan")], ValueError)],
)
def test_arguments_that_do_not_fit_or_are_no_json_are_refused(
    arguments: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        PendingTasks().add_task(unlucky, *arguments)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (generator, "yield"),
        (async_generator, "yield"),
        (collector, "by name"),
        (unlucky.function, "two tasks"),
    ],
)
def test_what_can_be_no_task_is_refused(function: Callable[..., Any], why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        task()(function)


def test_a_task_adds_another_if_it_succeeds_and_nobody_else_does() -> None:
    ids.clear()
    added = [attempt(Call.of(parent, fails=fails), 1).added for fails in (False, True)]
    assert len(ids) == 2
    assert [[call.task_id for call in calls] for calls in added] == [ids[:1], []]
    with pytest.raises(RuntimeError, match="TaskQueue"):
        add_task(length, "Lamp")


def test_a_function_that_is_no_task_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"collector.*@task\(\)"):
        PendingTasks().add_task(collector)  # type: ignore[arg-type]


def test_a_call_has_the_id_of_the_request_that_made_it(app: FastAPI) -> None:
    @app.get("/call")
    async def call() -> str:
        return Call.of(unlucky, "a", "b").request_id

    answer = TestClient(app).get("/call", headers={"X-Request-ID": "order-42"})
    assert answer.json() == "order-42"


def test_each_attempt_has_the_id_of_the_task() -> None:
    ids.clear()
    call = Call.of(unlucky, "a", "b")
    assert [attempt(call, number).status for number in (1, 2)] == ["retrying", "retrying"]
    assert ids == [call.task_id, call.task_id]
    assert len(current_task_id()) == 32  # as in a test that calls the function


def test_a_task_that_is_cancelled_fails_and_one_that_ends_its_process_does_not() -> None:
    for error in ("cancel", "pass"):
        assert attempt(Call.of(ended, error), 1).status == "failed"
    for error, kind in [("exit", SystemExit), ("stop", KeyboardInterrupt)]:
        with pytest.raises(kind):
            attempt(Call.of(ended, error), 1)


@pytest.mark.parametrize(("attempts", "longest"), [(1, 2), (4, 16), (9_999, 100)])
def test_a_delay_is_drawn_from_one_that_doubles_up_to_its_limit(
    attempts: int, longest: float
) -> None:
    delays = [unlucky.retry_delay(attempts) for _ in range(100)]
    assert 0.5 * longest <= min(delays) < 0.6 * longest
    assert 0.9 * longest < max(delays) <= longest

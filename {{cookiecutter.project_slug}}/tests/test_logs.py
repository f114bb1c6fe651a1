"""Logs: one format for all, and nothing that should not be kept."""

import asyncio
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from {{ cookiecutter.project_slug }}.logs import Formatter, configure_logging
from {{ cookiecutter.project_slug }}.settings import get_settings
from {{ cookiecutter.project_slug }}.taskqueue import task
from {{ cookiecutter.project_slug }}.taskqueue.task import Call, after_death, attempt

ADDRESS = "ada@example.com"

Configure = Callable[..., None]


@task()
def logging_task() -> None:
    structlog.contextvars.bind_contextvars(customer="c")
    logging.getLogger("mine").info("at work")
    try:
        raise OSError(f"no {ADDRESS} here")
    except OSError as error:
        raise ValueError(f"for {ADDRESS}") from error


async def fail(kind: type[Exception]) -> None:
    raise kind(f"for {ADDRESS}")


@task()
async def group_task() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(LookupError))
        group.create_task(fail(ArithmeticError))


@task()
def chaining_task(what: str) -> None:
    try:
        raise OSError
    except OSError as first:
        if what == "hide":
            raise ValueError from None
        try:
            raise ValueError from first
        except ValueError:
            raise first  # noqa: B904, so that each has the other as its cause


@pytest.fixture
def configure(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Return a function that sets up logging as a process of its own would have it."""
    root = logging.getLogger()

    def configure(level: str, environment: str = "production") -> None:
        monkeypatch.setattr(root, "handlers", [])
        update = {"environment": environment, "log_level": level}
        configure_logging(get_settings().model_copy(update=update))

    level = root.level
    yield configure
    root.setLevel(level)
    logging.captureWarnings(False)


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_each_line_of_a_task_says_whose_it_is(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    attempt(Call("logging_task", "{}", "r", "t", 0), 2)
    logging.getLogger("mine").info("after it")
    work, failed, after = logged(capsys)
    expected: dict[str, object] = {"task": "logging_task", "task_id": "t", "attempt": 2}
    expected |= {"request_id": "r", "customer": "c"}
    for line in (work, failed):
        assert line | expected == line
        assert 0 <= line["duration"] < 5
    assert (work["event"], work["level"], work["logger"]) == ("at work", "info", "mine")
    assert (failed["event"], failed["level"]) == ("task failed: ValueError", "error")
    assert not {"task", "request_id", "customer"} & after.keys()


def test_a_daemon_that_has_closed_stderr_logs_nowhere(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure("INFO")
    logging.getLogger("mine").info("to nobody")


def test_a_task_that_is_known_no_more_fails_and_says_whose_it_is(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    call = Call("renamed", "{}", "r", "t", 0)
    assert {attempt(call, 1).status, after_death(call, 1).status} == {"failed"}
    assert [line["task_id"] for line in logged(capsys)] == ["t", "t"]


def test_the_texts_of_errors_are_for_debugging_only(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    call = Call.of(logging_task)
    configure("INFO")
    attempt(call, 1)
    trace = logged(capsys)[-1]["exception"]
    assert trace.startswith("Traceback")
    assert trace.endswith("\nValueError: LOG_LEVEL=DEBUG shows its text")
    assert trace.index("OSError") < trace.index("ValueError")
    assert ADDRESS not in trace
    configure("DEBUG")
    attempt(call, 1)
    assert f"ValueError: for {ADDRESS}" in logged(capsys)[-1]["exception"]


def test_an_error_that_nobody_asked_for_is_told_without_its_text(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    async def forget() -> None:
        await asyncio.wait([asyncio.create_task(fail(LookupError))])

    configure("INFO")
    asyncio.run(forget())
    (line,) = logged(capsys)
    assert line["event"] == "Task exception was never retrieved"
    assert line["exception"].splitlines()[-1].startswith("LookupError: ")
    assert ADDRESS not in json.dumps(line)


def test_each_error_of_a_group_is_told(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    attempt(Call.of(group_task), 1)
    trace = logged(capsys)[-1]["exception"]
    assert trace.index("ExceptionGroup") < trace.index("LookupError")
    assert trace.index("in fail") < trace.index("ArithmeticError")
    assert ADDRESS not in trace


@pytest.mark.parametrize(("what", "told"), [("hide", 0), ("cycle", 1)])
def test_a_cause_is_told_once_unless_it_is_hidden(
    what: str, told: int, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    attempt(Call.of(chaining_task, what), 1)
    trace = re.findall("^[A-Z]\\w+Error", logged(capsys)[-1]["exception"], re.MULTILINE)
    assert (trace.count("OSError"), trace.count("ValueError")) == (told, 1)


def test_what_is_given_to_a_line_is_in_it(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    logging.getLogger("mine").info("hello", extra={"size": 3}, stack_info=True)
    log = structlog.get_logger("mine").bind(name="Lamp")
    log.info("made %s", "it", size=4)
    log.debug("not told")
    try:
        raise ValueError(ADDRESS)
    except ValueError:
        log.exception("failed")
    plain, bound, failed = logged(capsys)
    assert (plain["event"], plain["size"], "Stack" in plain["stack"]) == ("hello", 3, True)
    assert datetime.fromisoformat(bound.pop("timestamp")).tzinfo == UTC
    assert bound == {
        "event": "made it",
        "name": "Lamp",
        "size": 4,
        "level": "info",
        "logger": "mine",
    }
    assert failed["exception"].splitlines()[-1].startswith("ValueError: ")
    assert failed["level"] == "error"


def test_a_line_is_json_whatever_it_is_given(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    for value in (b"x", float("nan"), {("a", 1): 2}):
        logging.getLogger("mine").info("hello", extra={"value": value})
    lines = logged(capsys)
    assert [line["value"] for line in lines] == ["b'x'", "nan", "{('a', 1): 2}"]
    assert {line["event"] for line in lines} == {"hello"}


def test_libraries_and_warnings_come_in_the_same_format(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    uvicorn.Config("", log_level="critical")  # it sets up its own logs, before the service does
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # pytest has put its own way in its place
        configure("INFO")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    request = ("127.0.0.1:5000", "POST", f"/a/?email={ADDRESS}", "1.1", 202)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *request)
    logging.getLogger("uvicorn.error").info("Started %s", "it")
    warning, access, started = logged(capsys)
    assert (access["event"], started["event"]) == ("request", "Started it")
    assert (access["method"], access["path"], access["status"]) == ("POST", "/a/", 202)
    assert ADDRESS not in json.dumps(access)
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert not warning["event"].endswith("\n")


def test_uvicorn_is_as_quiet_as_it_is_told_to_be(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    uvicorn.Config("", access_log=False)
    configure("INFO")
    logging.getLogger("uvicorn.access").info("request")
    configure("WARNING")
    logging.getLogger("uvicorn.error").info("Started")
    assert not logged(capsys)


def test_what_uvicorn_sets_up_after_the_import_is_undone(app: FastAPI) -> None:
    uvicorn.Config(app)  # as in uvicorn.run(app), or "fastapi run main.py"
    assert logging.getLogger("uvicorn.access").handlers
    with TestClient(app):
        assert not logging.getLogger("uvicorn.access").handlers


def test_what_other_formatters_need_is_not_told() -> None:
    record = logging.makeLogRecord({"msg": "hello", "color_message": "\x1b[1mhello"})
    logging.Formatter("%(asctime)s %(message)s").format(record)
    line = json.loads(Formatter(json=True).format(record))
    assert line.keys() == {"event", "level", "logger", "timestamp"}


def test_lines_are_readable_in_development(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO", "development")
    logging.getLogger("mine").warning("careful")
    line = capsys.readouterr().err
    assert "careful" in line
    assert not {"{", "\x1b"} & set(line)  # neither JSON nor, where there is no terminal, colours
{% if cookiecutter.__celery %}


def test_the_arguments_that_celery_adds_to_its_lines_are_not_told(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("INFO")
    logging.getLogger("celery.app.trace").error("lost", extra={"data": {"kwargs": ADDRESS}})
    assert ADDRESS not in json.dumps(logged(capsys))
{% endif %}

"""Each variant at work: driven over HTTP through the whole contract, and by Schemathesis."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.mail import Mailbox
from harness.project import Project
from harness.service import (
    UPGRADE,
    Process,
    Service,
    celery,
    free_port,
    refusal,
    running,
    until,
    uvicorn,
)

from .conftest import Bake, on_each_backend
from .variants import OPTIONS, Variant

KEY = "open sesame"


@pytest.fixture
def service(installed: Project, tmp_path: Path) -> Iterator[Service]:
    settings = {"API_KEY": KEY, "MAILS_PER_MINUTE": "1000000"}
    with running(installed, tmp_path / "data", **settings) as service:
        yield service


def accept(service: Service, path: str, **query: str) -> dict[str, Any]:
    """Send a request that is accepted; returns the answer."""
    response = service.post(path, params=query)
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    assert response.headers["Location"] == f"/tasks/{answer['task_id']}"
    return answer


def succeed(service: Service, answer: dict[str, Any], name: str) -> None:
    status = service.wait_for_task(answer["task_id"])
    assert status.pop("enqueued_at") <= status.pop("finished_at")
    assert status == {
        "task_id": answer["task_id"],
        "name": name,
        "status": "succeeded",
        "attempts": 1,
        "error": None,
    }


@pytest.mark.xdist_group("schemathesis")  # in one process, as what it imports takes a while
def test_keeps_the_http_contract_whatever_it_is_asked_and_stops_cleanly_on_sigterm(
    service: Service, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard_all_but_health(service)
    service.client.headers["X-API-Key"] = KEY
    keep_the_http_contract(service, variant)
    monkeypatch.chdir(tmp_path)  # where it keeps its examples
    bear_whatever_the_schema_allows_and_forbids(service, variant)
    codes = service.stop()
    # uvicorn raises the signal that stopped it once more, when all is closed.
    assert codes[0] in (0, -signal.SIGTERM)
    assert codes[1:] == ([0] if variant.celery else [])
    assert "Traceback" not in service.api.output()
    assert "Application shutdown complete." in service.api.output()


def guard_all_but_health(service: Service) -> None:
    client = service.client
    assert client.get("/health/ready").status_code == 200
    for keys in ({}, {"X-API-Key": "open"}):
        refused = client.get("/tasks/x", headers=keys)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "APIKey")
    assert client.get("/tasks/x", headers={"X-API-Key": KEY}).status_code == 404
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    for path in schema["paths"]:
        if path.endswith("/") and path != "/":
            assert client.post(path).status_code == 401


def bear_whatever_the_schema_allows_and_forbids(service: Service, variant: Variant) -> None:
    from schemathesis.cli import schemathesis  # half a second, in each of xdist's workers

    options = [
        *("--phases=coverage,fuzzing,stateful", "--max-examples=8", "--seed=1", "--no-color"),
        "--warnings=off",  # where no task can be made, every id is unknown
        *("--header", f"X-API-Key: {KEY}"),
    ]
    if variant.email:  # which addresses are reserved, no schema can say
        options.append("--exclude-checks=positive_data_acceptance")
    result = CliRunner().invoke(schemathesis, ["run", *options, f"{service.url}/openapi.json"])
    assert result.exit_code == 0, result.output
    assert "No issues found" in result.output


def keep_the_http_contract(
    service: Service, variant: Variant, mailbox: Mailbox | None = None
) -> None:
    """Drive a service through its whole contract; the brokers' tests do it again, with SMTP."""
    client = service.client
    assert client.get("/health/live").status_code == 200
    assert client.get("/tasks/0123456789abcdef0123456789abcdef").status_code == 404
    schema = client.get("/openapi.json").json()
    assert schema["info"] == {
        "title": OPTIONS["project_name"],
        "summary": OPTIONS["project_short_description"],
        "version": "0.1.0",
    }
    answers = {
        path: {status for method in methods.values() for status in method["responses"]}
        for path, methods in schema["paths"].items()
    }
    assert all(
        answer["content"]["application/json"]["schema"]["$ref"].endswith("/Refusal")
        for methods in schema["paths"].values()
        for method in methods.values()
        for status, answer in method["responses"].items()
        if status >= "400" and status != "422"
    )
    known = schema["components"]["schemas"]["TaskStatus"]
    assert known["required"] == list(known["properties"])  # or clients would ask for each
    keyed = {"401"} if "X-API-Key" in client.headers else set()
    assert answers == {
        "/health/live": {"200"},
        "/health/ready": {"200", "503"},
        "/metrics": {"200"},
        "/tasks/{task_id}": {"200", "404", "422", "503", *keyed},
        **({"/items/": {"202", "422", "503", *keyed}} if variant.log else {}),
        **({"/send-email/": {"202", "422", "429", "503", *keyed}} if variant.email else {}),
    }
    if variant.log:
        answer = accept(service, "/items/", name="Zoë & Co")
        assert answer["message"] == "Item Zoë & Co created successfully!"
        succeed(service, answer, "write_log")
        assert (
            service.data_dir / "log.txt"
        ).read_bytes() == "Item Zoë & Co was created.\n".encode()
        for bad in ("", "x" * 201, "a\nb", "a\u2028b"):
            response = client.post("/items/", params={"name": bad})
            assert response.status_code == 422
            assert response.json()["detail"][0]["loc"] == ["query", "name"]
        accept(service, "/items/", name="x" * 200)
    if variant.email:
        answer = accept(service, "/send-email/", email="ada@example.com")
        assert answer["message"] == "Email will be sent soon"
        succeed(service, answer, "send_email")
        if mailbox:
            (mail,) = mailbox.mails
            assert (mail["To"], mail["Subject"]) == ("ada@example.com", "Welcome!")
            assert mail["Message-ID"] == f"<{answer['task_id']}@example.com>"
            _, text, _ = mail.walk()
            assert str(text.get_payload()).strip() == "Thank you for signing up!"
        else:
            assert (service.data_dir / "emails.log").read_bytes() == (
                b"To: ada@example.com\nSubject: Welcome!\n\nThank you for signing up!\n\n"
            )
        for bad in ("", "ada", "ada@example.com\nBcc: eve@example.com"):
            response = client.post("/send-email/", params={"email": bad})
            assert response.status_code == 422
            assert response.json()["detail"][0]["loc"] == ["query", "email"]


@on_each_backend
def test_links_hold_behind_a_proxy_that_serves_it_under_a_path(
    installed: Project, tmp_path: Path
) -> None:
    assert "`FORWARDED_ALLOW_IPS=10.0.0.2`" in installed.read("README.md")
    settings = {"FORWARDED_ALLOW_IPS": "127.0.0.1"}
    with running(installed, tmp_path / "data", "--root-path", "/deep/down", **settings) as service:
        assert "'/deep/down/openapi.json'" in service.client.get("/docs").text
        links = re.findall('(?:href|src|action)="([^"]+)"', service.client.get("/").text)
        assert len(links) > 3
        assert not [link for link in links if link.startswith("/")]
        assert service.client.get("/", headers=UPGRADE | {"X-Forwarded-For": "6.6.6.6"}).is_error
        until(lambda: '6.6.6.6:0 - "WebSocket' in service.api.output(), 30, "it is in the log")
        response = service.post("/items/?name=Lamp")
        assert response.headers["Location"] == f"/deep/down/tasks/{response.json()['task_id']}"


@on_each_backend
def test_a_connection_that_a_proxy_left_idle_takes_a_request(
    installed: Project, tmp_path: Path
) -> None:
    """Where uvicorn closed it, after 5 s by default, a POST was a 502 now and then."""
    (command,) = re.findall(r'^CMD (\["uvicorn".*)$', installed.read("Dockerfile"), re.MULTILINE)
    _, *options = json.loads(command)
    kept = options.index("--timeout-keep-alive")
    assert int(options[kept + 1]) > 120  # Caddy's; nginx and others have less
    with (
        running(installed, tmp_path / "data", *options[kept:]) as service,
        closing(HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection,
    ):
        for pause in (6, 0):
            connection.request("POST", "/items/")
            with connection.getresponse() as response:
                assert response.status == 422
                response.read()
            time.sleep(pause)


def test_runs_from_its_sources_too(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    project.sync("--no-install-project", "--no-dev")
    with running(project, tmp_path / "data", "--app-dir", "src") as service:
        assert service.client.get("/openapi.json").json()["info"]["title"] == "Task Service"


def test_fastapis_own_command_finds_it(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    project.sync("--no-dev")
    command = ["uv", "run", "--no-dev", "--with", "fastapi-cli", "fastapi", "run"]
    command += ["--host", "127.0.0.1", "--port", str(free_port())]
    data_dir = str(tmp_path / "data")
    process = Process(command, project.path, tmp_path / "log", DATA_DIR=data_dir)
    try:
        until(lambda: "running on" in process.output() or not process.alive(), 60, "it starts")
        assert process.alive(), process.output()
    finally:
        process.stop()


@on_each_backend
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"LOG_LEVEL": "loud", "TASK_HISTORY": "soon"}, ["LOG_LEVEL", "TASK_HISTORY"]),
        ({"DATA_DIR": "/dev/null/data"}, ["DATA_DIR"]),
        ({"ENVIRONMENT": "production"}, ["API_KEY"]),
    ],
    ids=["type", "folder", "production"],
)
def test_a_bad_setting_stops_the_start_with_one_line_for_each(
    installed: Project,
    variant: Variant,
    tmp_path: Path,
    settings: dict[str, str],
    named: list[str],
) -> None:
    settings = {"DATA_DIR": str(tmp_path / "data")} | settings
    # A bad CELERY_BROKER_URL stops uvicorn there.
    command = celery(installed, "worker") if variant.celery else uvicorn(installed)
    output = refusal(command, installed.path, tmp_path / "log", **settings)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(named), output
    assert all(name in line for name, line in zip(named, sorted(lines), strict=True))
    assert "Traceback" not in output


@on_each_backend
def test_a_taken_port_is_said(installed: Project, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = uvicorn(installed, port=taken.getsockname()[1])
        log = tmp_path / "log"
        output = refusal(command, installed.path, log, DATA_DIR=str(tmp_path / "data"))
        assert "address already in use" in output
        assert "Traceback" not in output

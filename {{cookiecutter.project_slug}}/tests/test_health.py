"""Health, and the status of what does not exist."""

from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock, Mock

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware

from {{ cookiecutter.project_slug }}.taskqueue import TaskBackend, Unavailable
from {{ cookiecutter.project_slug }}.taskqueue.queue import get_backend


def test_a_running_service_is_live_and_ready(client: TestClient) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readiness_says_why_not_through_a_dependency_that_a_test_overrides(
    app: FastAPI, client: TestClient
) -> None:
    backend = Mock(check=AsyncMock(side_effect=Unavailable("no disk")))
    app.dependency_overrides[get_backend] = lambda: backend
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"detail": "no disk"})


def test_a_request_keeps_its_id_unless_that_is_odd(client: TestClient) -> None:
    # The second is as HAProxy's manual shows; Apache's have an @, base64's the end.
    good = ["Order-4_2.".ljust(128, "x"), "7F000001:8296_7F00000A:1F90_5153D2EB_0001:1D0A", "@#+/="]
    for given in (*good, "x" * 129, "an id", "<b>"):
        answer = client.get("/health/live", headers={"X-Request-ID": given})
        told = answer.headers["X-Request-ID"]
        assert told == given if given in good else len(told) == 32


def test_no_middleware_hides_the_id_of_a_request(app: FastAPI) -> None:
    @app.middleware("http")
    async def fail(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> None:
        await call_next(request)
        raise RuntimeError

    client = TestClient(app, raise_server_exceptions=False)
    answer = client.get("/health/live", headers={"X-Request-ID": "order-42"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "order-42")


def test_what_instruments_fastapi_finds_its_stack(app: FastAPI) -> None:
    # opentelemetry-instrumentation-fastapi skips an application with anything else around it.
    assert isinstance(app.build_middleware_stack(), ServerErrorMiddleware)


def test_any_application_can_be_mounted(app: FastAPI) -> None:
    app.mount("/other", Starlette())
    answer = TestClient(app).get("/other/page")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")


def test_an_id_that_was_never_given_out_is_not_found(client: TestClient) -> None:
    assert client.get("/tasks/0123456789abcdef0123456789abcdef").status_code == 404


def test_a_websocket_may_look_at_a_task(app: FastAPI) -> None:
    @app.websocket("/follow/{task_id}")
    async def follow(task_id: str, websocket: WebSocket, backend: TaskBackend) -> None:
        await websocket.accept()
        await websocket.send_json(await backend.status(task_id))

    with TestClient(app) as client, client.websocket_connect(f"/follow/{'0' * 32}") as websocket:
        assert websocket.receive_json() is None

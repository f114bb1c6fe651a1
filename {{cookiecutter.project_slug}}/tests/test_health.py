"""Health, and the status of what does not exist."""

from starlette.testclient import TestClient


def test_a_running_service_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_an_id_that_was_never_given_out_is_not_found(client: TestClient) -> None:
    assert client.get("/tasks/0123456789abcdef0123456789abcdef").status_code == 404

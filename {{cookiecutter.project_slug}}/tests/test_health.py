"""Health, and the status of what does not exist."""

from starlette.testclient import TestClient


def test_a_running_service_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_a_request_keeps_its_id_unless_that_is_odd(client: TestClient) -> None:
    for given in ("order-42", "x" * 65, "an id"):
        answer = client.get("/health/live", headers={"X-Request-ID": given})
        told = answer.headers["X-Request-ID"]
        assert told == given if given == "order-42" else len(told) == 32


def test_an_id_that_was_never_given_out_is_not_found(client: TestClient) -> None:
    assert client.get("/tasks/0123456789abcdef0123456789abcdef").status_code == 404

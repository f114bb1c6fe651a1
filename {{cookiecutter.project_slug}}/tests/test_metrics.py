"""Metrics: what Prometheus reads."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from {{ cookiecutter.project_slug }}.api.health import router as health
from {{ cookiecutter.project_slug }}.taskqueue import task
from {{ cookiecutter.project_slug }}.taskqueue.task import Call, attempt

Samples = dict[tuple[str, frozenset[str]], float]


@task(retry_on=(OSError,), max_attempts=2)
def measured(what: str) -> None:
    if what == "fail":
        raise OSError


def samples(client: TestClient, before: Samples) -> Samples:
    """Return by how much each sample grew, by its name and the values of its labels."""
    response = client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    return {
        (key := (sample.name, frozenset(sample.labels.values()))): sample.value - before.get(key, 0)
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route(client: TestClient) -> None:
    before = samples(client, {})
    client.get("/tasks/0123456789abcdef")
    client.get("/tasks/fedcba9876543210")
    client.get("/no/such/page")
    client.request("INVENTED", "/no/such/page")
    grown = samples(client, before)
    name = "http_request_duration_seconds_count"
    assert grown[name, frozenset({"GET", "/tasks/{task_id}", "404"})] == 2
    assert grown[name, frozenset({"GET", "", "404"})] == 1
    assert grown[name, frozenset({"OTHER", "", "404"})] == 1
    text = client.get("/metrics").text
    assert "0123456789abcdef" not in text
    assert "INVENTED" not in text


def test_a_route_has_the_prefix_of_its_router(app: FastAPI) -> None:
    app.include_router(health, prefix="/v2")
    app.add_api_route("/of-no-router", lambda: None)
    paths = "/v2/health/live", "/of-no-router"
    with TestClient(app) as client:
        before = samples(client, {})
        for path in paths:
            client.get(path)
        grown = samples(client, before)
    for path in paths:
        key = frozenset({"GET", path, "200"})
        assert grown["http_request_duration_seconds_count", key] == 1
        assert 0 < grown["http_request_duration_seconds_sum", key] < 5


def test_attempts_are_counted_by_task_and_outcome(client: TestClient, data_dir: Path) -> None:
    before = samples(client, {})
    for number, what in [(1, "work"), (1, "fail"), (2, "fail")]:
        attempt(Call.of(measured, what), number)
    grown = samples(client, before)
    for outcome in ("succeeded", "retrying", "failed"):
        key = "task_attempts_total", frozenset({"measured", outcome})
        assert key in before  # from zero: the first one is an increase
        assert grown[key] == 1
    assert grown["task_duration_seconds_count", frozenset({"measured"})] == 3
    assert ("tasks_waiting", frozenset()) in grown

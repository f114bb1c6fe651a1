"""What Prometheus scrapes: the metrics of requests and tasks, of all processes of the service."""

import time
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Histogram(
    "http_request_duration_seconds", "Duration of requests by route.", ["method", "route", "status"]
)
ATTEMPTS = Counter("task_attempts", "Attempts at tasks by outcome.", ["task", "outcome"])
DURATION = Histogram(
    "task_duration_seconds", "Duration of attempts.", ["task"], buckets=(0.01, 0.1, 1, 10, 60, 600)
)
REFUSED = Counter("tasks_refused", "Requests whose tasks could not be stored: they got a 503.")


def registry() -> CollectorRegistry:
    """Return the metrics of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def exposition(gauges: dict[str, float]) -> bytes:
    """Return the metrics in Prometheus' text format, with gauges that are known only now."""
    lines = [f"# TYPE {name} gauge\n{name} {gauges[name]}\n" for name in gauges]
    return generate_latest(registry()) + "".join(lines).encode()


def request_metrics(app: ASGIApp) -> ASGIApp:
    """Wrap an application: its requests are measured."""

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        status = 500  # of an error that nobody caught

        async def observed(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, observed)
        finally:
            if scope["type"] == "http":
                # The route, as there is no end of paths; nor of methods, which a client may invent.
                # The context's path has the prefix of include_router(), the route's own has not.
                context = scope.get("fastapi", {}).get("effective_route_context")
                route = getattr(context or scope.get("route"), "path", "")
                method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "OTHER"
                labels = REQUESTS.labels(method, route, status)
                labels.observe(time.perf_counter() - begun)

    return measured

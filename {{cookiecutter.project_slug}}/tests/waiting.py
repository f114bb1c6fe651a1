"""Waiting for what happens in another thread or process."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi.testclient import TestClient

T = TypeVar("T")


def until(condition: Callable[[], T | None]) -> T:
    """Return the condition's first true value; raises TimeoutError."""
    deadline = time.monotonic() + 60  # seconds; a loaded machine is slow
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
    return value


def wait_for_task(client: TestClient, task_id: str) -> dict[str, Any]:
    """Return the task's status once it has ended; raises TimeoutError."""

    def ended() -> dict[str, Any] | None:
        status: dict[str, Any] = client.get(f"/tasks/{task_id}").json()
        return status if status.get("finished_at") else None  # a busy machine may answer 503

    return until(ended)

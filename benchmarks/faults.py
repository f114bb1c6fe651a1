"""What faults do to the textbook's service and to ours: ``python -m benchmarks.faults``.

Prints a Markdown table, in about five minutes. The textbook calls ``.delay()`` in an ``async def``
and leaves every setting as it comes; both use Redis, and the same versions of everything.
"""

import tempfile
import time
import uuid
from pathlib import Path

import httpx2

from harness.probes import add_probes
from harness.project import Project, bake
from harness.servers import Redis
from harness.service import Process, Service, free_port, running, until

PATIENCE = 60.0  # seconds after which an answer, or a lost task, is not waited for
TEXTBOOK = """
import os
import time
from typing import Annotated

from celery import Celery
from celery.result import AsyncResult
from fastapi import FastAPI, Query

celery = Celery("textbook", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app = FastAPI()


@celery.task
def work(seconds):
    with open("probe.log", "a") as file:
        file.write("begins\\n")
    time.sleep(seconds)
    with open("probe.log", "a") as file:
        file.write("ends\\n")


@app.post("/probes/", status_code=202)
async def create_probes(what: Annotated[list[str], Query()]):
    return [work.delay(float(each.split()[1])).id for each in what]


@app.get("/tasks/{task_id}")
async def read(task_id: str):
    return {"status": AsyncResult(task_id, app=celery).status}


@app.get("/health/live")
async def live():
    return {}
"""


class Textbook:
    """The textbook's service and its worker, with what this page needs of a ``Service``."""

    def __init__(self, project: Project, folder: Path, redis: Redis) -> None:
        folder.mkdir()
        (folder / "textbook.py").write_text(TEXTBOOK, "utf-8")
        self.data_dir = folder
        self._worker = [project.bin("celery"), "-A", "textbook:celery", "worker", "-c2"]
        self._settings = {"REDIS": redis.url, "PYTHONPATH": str(folder)}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api = self._start([project.bin("uvicorn"), "textbook:app", "--port", str(port)])
        self.worker = self._start(self._worker)
        until(self._answers, 60, "the textbook answers")

    def _answers(self) -> bool:
        try:
            return bool(httpx2.get(f"{self.url}/health/live"))
        except httpx2.TransportError:
            return False

    def _start(self, command: list[str]) -> Process:
        return Process(command, self.data_dir, self.data_dir / "log", **self._settings)

    def restart_worker(self) -> None:
        """Start another worker."""
        self.worker = self._start(self._worker)


def count(service: Service | Textbook, word: str) -> int:
    """Return how many tasks have begun, or ended."""
    path = service.data_dir / "probe.log"
    return path.read_text("utf-8").count(word) if path.exists() else 0


def enqueue(service: Service | Textbook) -> str:
    """Return the status of an answer and the seconds that it took."""
    start = time.monotonic()
    try:
        status = str(
            httpx2.post(f"{service.url}/probes/?what=sleep+0", timeout=PATIENCE).status_code
        )
    except httpx2.TimeoutException:
        return f"no answer in {PATIENCE:.0f} s"
    return f"{status} after {time.monotonic() - start:.1f} s"


def measure(service: Service | Textbook, redis: Redis) -> list[str]:
    """Hurt the service's worker and broker; returns what came of it, fault by fault."""
    unknown = httpx2.get(f"{service.url}/tasks/{uuid.uuid4().hex}", timeout=PATIENCE)
    cells = [f"{unknown.status_code} {unknown.json().get('status', '')}".strip()]
    httpx2.post(f"{service.url}/probes/", params={"what": ["sleep 3"] * 10}, timeout=PATIENCE)
    until(lambda: count(service, "begins") >= 2, 60, "work has begun")
    assert service.worker  # noqa: S101, for the type checker
    service.worker.kill()
    service.restart_worker()
    start = time.monotonic()
    while count(service, "ends") < 10 and time.monotonic() < start + PATIENCE:
        time.sleep(0.1)
    missing = 10 - count(service, "ends")
    cells.append(
        f"{missing} not run in {PATIENCE:.0f} s"
        if missing
        else f"all run in {time.monotonic() - start:.0f} s"
    )
    redis.stop()
    cells.append(enqueue(service))
    redis.start()
    cells.append(enqueue(service))
    redis.freeze()
    cells.append(enqueue(service))
    redis.release()
    return cells


def main() -> None:
    """Print the table."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    project = bake(folder, task_backend="Celery")
    add_probes(project)
    project.sync()
    columns = []
    for name in ("textbook", "ours"):
        redis = Redis(folder / f"redis-{name}")
        redis.start()
        if name == "ours":
            with running(project, folder / name, CELERY_BROKER_URL=redis.url) as service:
                columns.append(measure(service, redis))
        else:
            textbook = Textbook(project, folder / name, redis)
            columns.append(measure(textbook, redis))
            textbook.worker.kill()
            textbook.api.kill()
        redis.end()
    faults = [
        "status of an unknown id",
        "`kill -9` of a worker with two of ten tasks running, then a new worker",
        "enqueue while Redis is stopped",
        "enqueue when it is back",
        "enqueue while Redis is frozen",
    ]
    print("| fault | textbook | this template |\n| --- | --- | --- |")
    for row in zip(faults, *columns, strict=True):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

"""``make faults``: what faults do to the textbook's service and to the rendered project's.

The textbook calls ``.delay()`` in an ``async def`` and leaves every setting as it comes; both use
Redis, and the same versions of everything.
"""

import tempfile
import time
import uuid
from pathlib import Path

import httpx2

from harness.probes import add_probes
from harness.servers import Redis, started
from harness.service import until

from .contenders import Contender, Server
from .measure import install, need, progress
from .report import judge, machine, table

PATIENCE = 60.0  # seconds after which an answer, or a lost task, is not waited for
TASKS = """
import os
import time

from celery import Celery

redis = os.environ["CELERY_BROKER_URL"]
celery_app = Celery("tasks", broker=redis, backend=redis)


@celery_app.task
def work(seconds):
    with open("probe.log", "a") as file:
        file.write("begins\\n")
    time.sleep(seconds)
    with open("probe.log", "a") as file:
        file.write("ends\\n")
"""
MAIN = """
from typing import Annotated

from celery.result import AsyncResult
from fastapi import FastAPI, Query
from tasks import celery_app, work

app = FastAPI()


@app.post("/probes/", status_code=202)
async def create_probes(what: Annotated[list[str], Query()]):
    return [work.delay(float(each.split()[1])).id for each in what]


@app.get("/tasks/{task_id}")
async def read(task_id: str):
    return {"status": AsyncResult(task_id, app=celery_app).status}
"""
# In the order in which both are hurt, and how the rendered project's cell is promised to begin.
FAULTS = {
    "the status of an id that was never given out": "404",
    "`kill -9` of a worker with two of ten tasks running, then a new worker": "all run",
    "a request while Redis is stopped": r"503 after [01]\.",
    "a request when it is back": "202",
    "a request while Redis is frozen": r"503 after [01]\.",
}


def count(server: Server, word: str) -> int:
    """Return how many tasks have begun, or ended."""
    path = server.folder / "probe.log"
    return path.read_text("utf-8").count(word) if path.exists() else 0


def enqueue(server: Server) -> str:
    """Return the status of an answer and the seconds that it took."""
    start = time.monotonic()
    try:
        answer = httpx2.post(f"{server.url}/probes/?what=sleep+0", timeout=PATIENCE)
    except httpx2.TimeoutException:
        return f"no answer in {PATIENCE:.0f} s"
    return f"{answer.status_code} after {time.monotonic() - start:.1f} s"


def measure(server: Server, redis: Redis) -> list[str]:
    """Hurt the service's worker and broker; returns what came of it, fault by fault."""
    unknown = httpx2.get(f"{server.url}/tasks/{uuid.uuid4().hex}", timeout=PATIENCE)
    cells = [f"{unknown.status_code} {unknown.json().get('status', '')}".strip()]
    worker = server.start_worker()
    enqueue(server)
    until(lambda: count(server, "ends"), 60, "the worker works")
    httpx2.post(f"{server.url}/probes/", params={"what": ["sleep 3"] * 10}, timeout=PATIENCE)
    until(lambda: count(server, "begins") >= 3, 60, "two of ten are running")
    worker.kill()
    server.start_worker()
    start = time.monotonic()
    while count(server, "ends") < 11 and time.monotonic() < start + PATIENCE:
        time.sleep(0.1)
    missing = 11 - count(server, "ends")
    cells.append(
        f"{missing} not run in {PATIENCE:.0f} s"
        if missing
        else f"all run in {time.monotonic() - start:.0f} s"
    )
    redis.stop()
    cells.append(enqueue(server))
    redis.start()
    cells.append(enqueue(server))
    redis.freeze()
    cells.append(enqueue(server))
    redis.release()
    return cells


def main() -> None:
    """Hurt both, and print what came of it; exits with 1 where it is not as promised."""
    need("redis-server")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        project = install(folder, "Celery")
        add_probes(project)
        columns = []
        for contender in (
            Contender("textbook", project, {"tasks.py": TASKS, "main.py": MAIN}),
            Contender("rendered", project),
        ):
            progress(contender.name)
            with (
                started(Redis(folder / f"redis-{contender.name}")) as redis,
                contender.serve(folder / contender.name, CELERY_BROKER_URL=redis.url) as server,
            ):
                columns.append(measure(server, redis))
        rows = list(zip(FAULTS, *columns, strict=True))
        print(f"\n{machine(project)}")
        table("What a fault does on Celery", ["", "textbook", "rendered"], rows)
        judge(rows, FAULTS.values())


if __name__ == "__main__":
    main()

"""A task that does what a test asks for, added to a project as its README says."""

from .project import SLUG, Project

TASK = """
import contextlib
import multiprocessing
import os
import signal
import subprocess
import time

from ..settings import get_settings
from ..taskqueue import add_task, current_task_id, task
from .files import append


def wait() -> None:
    while not (get_settings().data_dir / "gate").exists():
        time.sleep(0.05)


@task(retry_on=(OSError,), max_attempts=3, backoff=0.2)
def probe(what: str) -> None:
    append("probe.log", f"{current_task_id()} begins\\n")
    begun = (get_settings().data_dir / "probe.log").read_text().count(f"{current_task_id()} begins")
    match what.split():
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["wait"]:  # for the test, not for a time that a busy machine needs for itself
            wait()
        case ["again", seconds]:
            if begun == 1:
                raise OSError("not yet")
            if begun == 2:
                time.sleep(float(seconds))
        case ["stay"]:  # whatever asks it to end
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(300)
        case ["run"]:
            subprocess.run(["true"], check=True)  # noqa: S607
        case ["fork"]:
            multiprocessing.Process(target=time.time).start()
        case ["terminate", method]:
            process = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join(3)
            process.kill()
            process.join()  # until then its exit code may still be unknown
            raise ValueError(f"ended by {process.exitcode}")
        case ["die", *seconds]:
            time.sleep(sum(map(float, seconds)))
            os.kill(os.getpid(), signal.SIGKILL)
        case ["die-once"] if begun == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["heal", *late] if begun < 3:
            if late:
                wait()
            raise OSError("not yet")
        case ["never"]:
            raise OSError("never")
        case ["add", *rest]:
            add_task(probe, "sleep 0")
            if "late" in rest:
                wait()
            if "again" in rest and begun < 2:
                raise OSError("not yet")
        case ["refuse"]:
            raise ValueError("no")
    append("probe.log", f"{current_task_id()} ends\\n")
"""
ENDPOINT = """
from typing import Annotated

from fastapi import APIRouter, Query

from ..taskqueue import TaskQueue, TaskRoute
from ..tasks.probe import probe

router = APIRouter(route_class=TaskRoute)


@router.post("/probes/", status_code=202)
async def create_probes(
    what: Annotated[list[str], Query()], background_tasks: TaskQueue
) -> list[str]:
    task_ids = [background_tasks.add_task(probe, each) for each in what]
    if "raise" in what:
        raise RuntimeError("after enqueueing")
    return task_ids
"""


def add_probes(project: Project) -> None:
    """Add the task and its endpoint, ``POST /probes/?what=...``."""
    add_task(project, "probe", TASK.lstrip(), "probes", ENDPOINT.lstrip())


def add_task(project: Project, task: str, code: str, router: str, endpoint: str) -> None:
    """Add a task's module and that of its endpoint, as a project's README says."""
    package = project.path / "src" / SLUG
    (package / "tasks" / f"{task}.py").write_text(code, "utf-8")
    (package / "api" / f"{router}.py").write_text(endpoint, "utf-8")
    for old, new in [
        ("from .settings ", f"from .api.{router} import router as {router}\nfrom .settings "),
        ("(health)\n", f"(health)\n    app.include_router({router}, **protected)\n"),
    ]:
        project.replace(f"src/{SLUG}/main.py", old, new)

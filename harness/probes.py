"""A task that does what a test asks for, added to a project as its README says."""

from .project import SLUG, Project

TASK = """
import os
import signal
import time

from ..settings import get_settings
from ..taskqueue import current_task_id, task
from .files import append


@task(retry_on=(OSError,), max_attempts=3, backoff=0.2)
def probe(what: str) -> None:
    append("probe.log", f"{current_task_id()} begins\\n")
    begun = (get_settings().data_dir / "probe.log").read_text().count(f"{current_task_id()} begins")
    match what.split():
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["die-once"] if begun == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["heal"] if begun < 3:
            raise OSError("not yet")
        case ["never"]:
            raise OSError("never")
        case ["refuse"]:
            raise ValueError("no")
    append("probe.log", f"{current_task_id()} ends\\n")
"""
ENDPOINT = """
from typing import Annotated

from fastapi import APIRouter, Query

from ..taskqueue import TaskQueue
from ..tasks.probe import probe

router = APIRouter()


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
    package = project.path / "src" / SLUG
    (package / "tasks" / "probe.py").write_text(TASK.lstrip(), "utf-8")
    (package / "api" / "probes.py").write_text(ENDPOINT.lstrip(), "utf-8")
    for name, old, new in [
        ("tasks/__init__.py", "from . import ", "from . import probe as probe, "),
        ("main.py", "from .api import ", "from .api import probes, "),
        ("main.py", "    return app\n", "    app.include_router(probes.router)\n    return app\n"),
    ]:
        path = package / name
        text = path.read_text("utf-8")
        if old not in text:
            raise AssertionError(f"{name} has no {old!r}")
        path.write_text(text.replace(old, new, 1), "utf-8")

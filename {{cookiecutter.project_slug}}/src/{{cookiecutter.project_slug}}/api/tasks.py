"""What became of a task."""

import re

from fastapi import APIRouter, HTTPException

from ..taskqueue import TaskBackend, TaskStatus
from .refusal import Refusal

router = APIRouter(prefix="/tasks", tags=["tasks"])

# As we make them, or a UUID; anything else may be a path, or end up in a log.
TASK_ID = re.compile("[0-9a-f-]{32,36}")


@router.get(
    "/{task_id}",
    responses={
        404: {"description": "No task has this id", "model": Refusal},
        503: {"description": "The status can't be read now", "model": Refusal},
    },
)
async def read_task(task_id: str, backend: TaskBackend) -> TaskStatus:
    """Tell the status of a task, by the ``task_id`` of the answer that accepted it."""
    status = await backend.status(task_id) if TASK_ID.fullmatch(task_id) else None
    if status is None:
        raise HTTPException(404, "No task has this id.")
    return status

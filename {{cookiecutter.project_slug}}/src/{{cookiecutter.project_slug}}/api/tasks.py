"""What became of a task."""

from fastapi import APIRouter, HTTPException

from ..taskqueue import TaskBackend, TaskStatus, Unavailable, unavailable

router = APIRouter(prefix="/tasks", tags=["tasks"])


@router.get(
    "/{task_id}",
    responses={
        404: {"description": "No task has this id"},
        503: {"description": "The status can't be read now"},
    },
)
async def read_task(task_id: str, backend: TaskBackend) -> TaskStatus:
    """Tell the status of a task, by the ``task_id`` of the answer that accepted it."""
    try:
        status = await backend.status(task_id)
    except Unavailable as error:
        raise unavailable(error) from error
    if status is None:
        raise HTTPException(404, "No task has this id.")
    return status

"""Background tasks: how they are written, enqueued, stored and run."""

from .backend import Backend
from .queue import TaskBackend, TaskQueue, TaskRoute, unavailable
from .runner import current_task_id
from .task import TaskStatus, Unavailable, task

__all__ = [
    "Backend",
    "TaskBackend",
    "TaskQueue",
    "TaskRoute",
    "TaskStatus",
    "Unavailable",
    "current_task_id",
    "task",
    "unavailable",
]

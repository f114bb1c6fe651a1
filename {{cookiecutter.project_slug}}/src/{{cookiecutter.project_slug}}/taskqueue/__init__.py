"""Background tasks: how they are written, enqueued, stored and run."""

from .backend import Backend as Backend
from .queue import TaskBackend as TaskBackend
from .queue import TaskQueue as TaskQueue
from .queue import TaskRoute as TaskRoute
from .task import TaskStatus as TaskStatus
from .task import Unavailable as Unavailable
from .task import add_task as add_task
from .task import current_task_id as current_task_id
from .task import task as task

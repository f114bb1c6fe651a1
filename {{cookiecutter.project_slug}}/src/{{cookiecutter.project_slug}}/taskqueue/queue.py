"""``TaskQueue``: what an endpoint takes to enqueue tasks."""

from collections.abc import AsyncIterator
from typing import Annotated, ParamSpec

from fastapi import BackgroundTasks, Depends, HTTPException, Request, Response

from .task import Backend, Call, Task, Unavailable

P = ParamSpec("P")

RETRY_AFTER = "5"  # seconds


def unavailable(error: Unavailable) -> HTTPException:
    """Return the 503 that asks the client to come back (RFC 9110, section 15.6.4)."""
    return HTTPException(503, str(error), headers={"Retry-After": RETRY_AFTER})


class PendingTasks:
    """The tasks of one request, stored together once its endpoint has returned."""

    def __init__(self, response: Response) -> None:
        self.calls: list[Call] = []
        self._response = response

    def add_task(self, task: Task[P], *args: P.args, **kwargs: P.kwargs) -> str:
        """Run ``task`` after the response; returns its id, and points ``Location`` to its status.

        Raises TypeError for arguments that do not fit the task or are not JSON.
        """
        call = Call.of(task, *args, **kwargs)
        self.calls.append(call)
        self._response.headers["Location"] = f"/tasks/{call.task_id}"
        return call.task_id


# async, or FastAPI runs it on one of the 40 threads that slow plain endpoints can fill.
async def get_backend(request: Request) -> Backend:
    """Return the application's backend, opened by its lifespan."""
    backend: Backend = request.app.state.backend
    return backend


async def _pending_tasks(
    response: Response,
    background_tasks: BackgroundTasks,
    backend: Annotated[Backend, Depends(get_backend)],
) -> AsyncIterator[PendingTasks]:
    pending = PendingTasks(response)
    yield pending
    # An endpoint that raised does not come here: nothing is stored. And the response is not sent
    # before this ends (scope="function"): a 202 means stored.
    if not pending.calls:
        return
    try:
        await backend.store(pending.calls)
    except Unavailable as error:
        raise unavailable(error) from error
    background_tasks.add_task(backend.start, pending.calls)


TaskQueue = Annotated[PendingTasks, Depends(_pending_tasks, scope="function")]
TaskBackend = Annotated[Backend, Depends(get_backend)]

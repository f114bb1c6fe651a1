"""``TaskQueue``: what an endpoint takes to enqueue tasks, on a router of ``TaskRoute``."""

import contextlib
import math
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.routing import NoMatchFound

from ..metrics import REFUSED
from ..settings import get_settings
from .backend import Backend
from .task import Call, P, Task, Unavailable


class PendingTasks:
    """The tasks of one request, stored together once its endpoint has returned."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.closed = False

    def add_task(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Run ``task`` after the response; returns its id. A 202 points to the last one's status.

        Raises as ``Call.of`` does; RuntimeError once the endpoint has returned.
        """
        if self.closed:  # as in the parts of a StreamingResponse
            raise RuntimeError("too late: the tasks of an endpoint are stored when it returns")
        call = Call.of(task, *args, **kwargs)
        self.calls.append(call)
        return call.task_id


class TaskRoute(APIRoute):
    """A route whose endpoint enqueues tasks; they run as FastAPI's background tasks do.

    A dependency with ``yield`` could do it too, at three times the cost:
    https://fastapi.tiangolo.com/how-to/custom-request-and-route/
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, with the tasks stored before its answer is sent."""
        handle = super().get_route_handler()

        async def store_and_answer(request: Request) -> Response:
            pending = request.scope["pending_tasks"] = PendingTasks()
            response = await handle(request)
            # An endpoint that raised does not come here: nothing is stored. Nor may one of its
            # dependencies raise afterwards, those that end before the response (scope="function").
            await request.scope["fastapi_function_astack"].aclose()
            pending.closed = True
            if pending.calls and response.status_code < 400:
                await _store(request, pending.calls, response)
            return response

        return store_and_answer


async def _store(request: Request, calls: list[Call], response: Response) -> None:
    backend = await get_backend(request)
    with REFUSED.count_exceptions(Unavailable):
        await backend.store(calls)
    if response.status_code == 202 and (path := _status_path(request.app)):
        root = request.scope.get("root_path", "")  # where a proxy, or another application, has us
        response.headers.setdefault("Location", f"{root}{path}{calls[-1].task_id}")
    tasks = BackgroundTasks()
    tasks.add_task(backend.start, calls)
    if response.background:  # the endpoint's own
        tasks.add_task(response.background)
    response.background = tasks


@lru_cache  # a look takes a tenth of a millisecond
def _status_path(app: FastAPI) -> str:
    """Return what comes before a task's id, with any prefix of its router; "" where it has none."""
    with contextlib.suppress(NoMatchFound):
        return app.url_path_for("read_task", task_id="-").removesuffix("-")
    return ""


def _of_another_site(headers: Mapping[str, str]) -> bool:
    """Tell whether a page of another site had a browser send a request with these headers."""
    if site := headers.get("Sec-Fetch-Site"):  # which no browser sends over http to other machines
        return site == "cross-site"
    origin = headers.get("Origin")
    if origin is None:  # no browser, which sends it with each POST
        return False
    name, host = (re.sub(r"^\w+://|:\d+$", "", each) for each in (origin, headers.get("Host", "")))
    return name != host


# async, or FastAPI runs them on the 40 threads that slow plain endpoints can fill.
async def _pending_tasks(request: HTTPConnection) -> PendingTasks:  # a WebSocket is told why not
    # Without a key, a form on any page that a developer visits could start tasks here.
    if not get_settings().api_key and _of_another_site(request.headers):
        raise HTTPException(403, "A page of another site can start tasks only with an API_KEY.")
    # FastAPI refuses a body that no endpoint reads only as the response goes out: too late.
    limit = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY, math.inf)
    if float(request.headers.get("Content-Length", 0)) > limit:  # int() takes 4300 digits only
        raise HTTPException(413, "Content Too Large")
    pending: PendingTasks | None = request.scope.get("pending_tasks")
    if pending is None:
        raise RuntimeError("TaskQueue needs an HTTP endpoint on APIRouter(route_class=TaskRoute)")
    return pending


async def get_backend(connection: HTTPConnection) -> Backend:  # a WebSocket is one too
    """Return the application's backend, opened by its lifespan."""
    backend: Backend = connection.app.state.backend
    return backend


TaskQueue = Annotated[PendingTasks, Depends(_pending_tasks)]
TaskBackend = Annotated[Backend, Depends(get_backend)]

"""What Prometheus scrapes: the metrics of requests and tasks, of all processes of the service."""

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from http import HTTPMethod
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .settings import refuse

if sys.platform != "win32":
    import fcntl


def _own_folder() -> str:
    """Return a folder named after a secret that the processes of a service alone share."""
    secret = hashlib.sha256(multiprocessing.current_process().authkey).hexdigest()
    # In memory where Linux has it: a write to a mapped file on a full disk kills the process.
    in_memory = not os.environ.get("TMPDIR") and os.access("/dev/shm", os.W_OK)  # noqa: S108
    place = "/dev/shm" if in_memory else tempfile.gettempdir()  # noqa: S108
    folder = Path(place, f"{__package__}-metrics-{secret}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if sys.platform != "win32":
        # Each process locks it while it lives. A folder that nobody locks was left behind, as
        # uvicorn ends by SIGTERM, without atexit; or was made just now, by another service.
        fcntl.flock(os.open(folder / "lock", os.O_CREAT, 0o600), fcntl.LOCK_SH)
        for left in folder.parent.glob(f"{__package__}-metrics-*"):
            with contextlib.suppress(OSError):
                if left.lstat().st_uid != os.getuid():
                    continue  # a trap, perhaps: a pipe to wait at, or a tree too deep to remove
                with (left / "lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if left.stat().st_mtime < time.time() - 60:
                        shutil.rmtree(left)
    return str(folder)


@cache
def _number(pid: int) -> int:
    """Return the first number that no live process has, for the names of a process's files.

    Named by pid, as is the default, files of every process that ever ran would fill the disk.
    """
    if sys.platform != "win32":
        for number in count():
            lock = os.open(Path(_folder, f"{number}.lock"), os.O_CREAT, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number
            os.close(lock)
    return pid


# The processes count together, in files.
try:
    _folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or _own_folder()
    os.makedirs(_folder, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: _number(os.getpid())
    )
except OSError as error:
    refuse(f"PROMETHEUS_MULTIPROC_DIR: {error}")

REQUESTS = Histogram(
    "http_request_duration_seconds", "Duration of requests by route.", ["method", "route", "status"]
)
ATTEMPTS = Counter("task_attempts", "Attempts at tasks by outcome.", ["task", "outcome"])
DURATION = Histogram(
    "task_duration_seconds", "Duration of attempts.", ["task"], buckets=(0.01, 0.1, 1, 10, 60, 600)
)
REFUSED = Counter("tasks_refused", "Requests whose tasks could not be stored: they got a 503.")


def registry() -> CollectorRegistry:
    """Return the metrics of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def exposition(gauges: dict[str, float]) -> bytes:
    """Return the metrics in Prometheus' text format, with gauges that are known only now."""
    about = "# HELP {0} Of tasks that wait to be run.\n# TYPE {0} gauge\n{0} {1}\n"
    lines = [about.format(name, gauges[name]) for name in gauges]
    return generate_latest(registry()) + "".join(lines).encode()


def request_metrics(app: ASGIApp) -> ASGIApp:
    """Wrap an application: its requests are measured."""

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        status = 500  # of an error that nobody caught

        async def observed(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, observed)
        finally:
            if scope["type"] == "http":
                # The route, as there is no end of paths; nor of methods, which a client may invent.
                # The context's path has the prefix of include_router(), the route's own has not.
                context = scope.get("fastapi", {}).get("effective_route_context")
                route = getattr(context or scope.get("route"), "path", "")
                method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "OTHER"
                REQUESTS.labels(method, route, status).observe(time.perf_counter() - begun)

    return measured

"""A rendered service at work: uvicorn and, on Celery, a worker; started, watched, stopped."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from .project import SLUG, Project, environment

T = TypeVar("T")

# A WebSocket's, with RFC 6455's nonce.
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
UPGRADE["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="

# A connection that is idle for 5 s both would end, httpx2 and uvicorn: a request that met uvicorn's
# end had no answer.
LIMITS = httpx2.Limits(max_connections=None, keepalive_expiry=2)

# Each of xdist's workers has ports of its own: two that were given the same one, before the first
# had listened on it, talked to one service. None is one that Linux gives to connections.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = range(10_000, 30_000)[_WORKER % 10 :: 10]
_ports = itertools.cycle(random.sample(_PORTS, len(_PORTS)))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, another one each time."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            break
    return port


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Return the condition's first true value; raises TimeoutError that says ``what``."""
    begin = time.monotonic()
    while True:
        if value := condition():
            return value
        waited = time.monotonic() - begin
        if waited > seconds:
            raise TimeoutError(f"{what}: not within {seconds} s")
        # A look takes the machine's time, and what is awaited needs it: the longer, the fewer.
        time.sleep(min(0.02 + waited / 20, 0.5))


class Process:
    """A program with its output in a file."""

    def __init__(self, command: list[str], cwd: Path, log: Path, **settings: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own, for send()
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._process.poll() is None

    def children(self, *options: str) -> list[int]:
        """Return the ids of its child processes, of those that pgrep's ``options`` select."""
        command = ["pgrep", "-P", str(self.pid), *options]
        found = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # 1 where none is
        return [int(pid) for pid in found.stdout.split()]

    def output(self) -> str:
        """Return what it has printed."""
        return self.log.read_text("utf-8", errors="replace")

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to it and to its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, sig)

    def kill(self) -> None:
        """End it and its children at once, as a crash of the machine does."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Send the signal and return the exit code; kills it after ``seconds``."""
        if self.alive():
            self._process.send_signal(sig)
        return self.wait(seconds)

    def wait(self, seconds: float) -> int:
        """Return the exit code; kills it, and raises TimeoutExpired, after ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def uvicorn(project: Project, *options: str, port: int = 0) -> list[str]:
    """Return the command that serves a project; on a free port where none is given."""
    served = ["--port", str(port or free_port()), *options]
    return [project.bin("uvicorn"), f"{SLUG}.main:app", *served]


def celery(project: Project, *arguments: str) -> list[str]:
    """Return a command of Celery for a project; ``worker`` runs one."""
    return [project.bin("celery"), "-A", f"{SLUG}.worker", *arguments]


def refusal(command: list[str], cwd: Path, log: Path, **settings: str) -> str:
    """Run what must not start; returns its output, raises AssertionError if it ends with 0."""
    process = Process(command, cwd, log, **settings)
    try:
        until(lambda: not process.alive(), 60, "it stops")
    finally:
        code = process.stop()
    if not code:
        raise AssertionError(process.output())
    return process.output()


class Service:
    """A running project, and a client that talks to it."""

    def __init__(self, project: Project, data_dir: Path, *options: str, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"DATA_DIR": str(data_dir), **settings}
        self._project = project
        self.api = self._start(uvicorn(project, *options, port=self.port))
        self.worker: Process | None = None
        if (project.path / "src" / SLUG / "worker.py").exists():
            self.settings.setdefault("TASK_CONCURRENCY", "2")  # processes: they start slowly
            self.worker = self.start_worker()
        # It would read the machine's certificates, for 30 ms of a processor.
        self.client = httpx2.Client(base_url=self.url, timeout=10, verify=False, limits=LIMITS)

    def _start(self, command: list[str]) -> Process:
        log = self.data_dir.parent / f"{self.data_dir.name}.{Path(command[0]).name}.log"
        return Process(command, self._project.path, log, **self.settings)

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the project's own environment with the settings of the service."""
        return self._project.run(self._project.bin(program), *arguments, **self.settings)

    def start_worker(self) -> Process:
        """Start a Celery worker."""
        return self._start(celery(self._project, "worker"))

    def restart_worker(self) -> None:
        """Start a worker in place of one that has ended, and wait until it takes tasks."""
        assert self.worker  # noqa: S101, for the type checker
        before = self.worker.output().count(" ready.")
        worker = self.worker = self.start_worker()
        until(lambda: worker.output().count(" ready.") > before, 180, "the worker is ready")

    def wait_until_ready(self) -> None:
        """Poll readiness; raises AssertionError with the log when the service dies instead."""

        def ready() -> bool:
            if not self.api.alive():
                raise AssertionError(self.api.output())
            try:
                return self.client.get("/health/ready").status_code == 200
            except httpx2.TransportError:
                return False

        until(ready, 180, "the service is ready")
        if worker := self.worker:
            until(lambda: " ready." in worker.output(), 180, "the worker is ready")

    def get(self, path: str) -> httpx2.Response:
        """Return the first answer that is no 503, which a busy machine's broker may deserve."""
        return self._insist("GET", path)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        """Return the first answer that is no 503, as ``get`` does."""
        return self._insist("POST", path, **options)

    def _insist(self, method: str, path: str, **options: Any) -> httpx2.Response:
        def answer() -> httpx2.Response | None:
            response = self.client.request(method, path, **options)
            return None if response.status_code == 503 else response

        return until(answer, 15, f"{path} is answered")

    def wait_for_task(self, task_id: str, seconds: float = 60) -> dict[str, Any]:
        """Return the status of a task that has ended."""

        def ended() -> dict[str, Any] | None:
            status: dict[str, Any] = self.client.get(f"/tasks/{task_id}").json()
            return status if status.get("finished_at") else None  # a busy machine may answer 503

        return until(ended, seconds, f"task {task_id} has ended")

    def kill(self) -> None:
        """Kill the API, its children and the worker."""
        self.client.close()
        for process in (self.api, self.worker):
            if process:
                process.kill()

    def stop(self) -> list[int]:
        """Send SIGTERM; returns the exit codes of the API and of the worker."""
        self.client.close()
        return [process.stop() for process in (self.api, self.worker) if process]


@contextlib.contextmanager
def running(project: Project, data_dir: Path, *options: str, **settings: str) -> Iterator[Service]:
    """Run the project on a free port, uvicorn with the ``options``, until the block ends."""
    service = Service(project, data_dir, *options, **settings)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()

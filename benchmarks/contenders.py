"""Who is measured: the rendered project, and the tutorial's code in the same environment."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from harness.project import SLUG, Project
from harness.service import Process, free_port, until

# The same for everyone. An access log costs everyone the same, and so hides the differences.
UVICORN = ("--no-access-log", "--log-level", "warning")

TUTORIAL = """
from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def write_log(message: str):
    with open("log.txt", "a") as log_file:
        log_file.write(f"{message}\\n")


@app.post("/items/")
async def create_item(name: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_log, f"Item {name} was created.")
    return {"message": f"Item {name} created successfully!"}
"""
BARE = """
from fastapi import FastAPI, Response

app = FastAPI()


@app.post("/items/", status_code=202)
async def create_item(name: str, response: Response):
    response.headers["Location"] = "/tasks/1"
    return {"message": f"Item {name} created successfully!"}
"""
# The tutorial's mail, where it is really sent; and an endpoint to be as fast as before.
TUTORIAL_MAIL = """
import os
import smtplib

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def send_email(to: str, subject: str, body: str):
    with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])) as server:
        server.sendmail("service@example.com", to, f"To: {to}\\nSubject: {subject}\\n\\n{body}\\n")


@app.post("/send-email/")
async def send_email_endpoint(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(send_email, email, "Welcome!", "Thank you for signing up!")
    return {"message": "Email will be sent soon"}


@app.get("/health/live")
async def live():
    return {"status": "ok"}
"""
# An endpoint that FastAPI runs on a thread of its pool.
PLAIN = """

@app.get("/plain")
def plain() -> dict[str, str]:
    return {"status": "ok"}
"""
CELERY_TASKS = """
import os

from celery import Celery

celery_app = Celery("tasks", broker=os.environ["CELERY_BROKER_URL"])


@celery_app.task
def write_log(message: str):
    with open("log.txt", "a") as log_file:
        log_file.write(f"{message}\\n")
"""
CELERY_MAIN = """
from fastapi import FastAPI
from tasks import write_log

app = FastAPI()


@app.post("/items/")
async def create_item(name: str):
    write_log.delay(f"Item {name} was created.")
    return {"message": f"Item {name} created successfully!"}
"""


@dataclass(frozen=True)
class Contender:
    """A program: files of its own, or the rendered project, in that project's environment."""

    name: str
    project: Project
    files: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def serve(self, folder: Path, **settings: str) -> Iterator["Server"]:
        """Run it, with its data in ``folder``, until the block ends."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text.lstrip(), "utf-8")
        server = Server(self, folder, settings)
        try:
            until(server.answers, 120, f"{self.name} answers")
            yield server
        finally:
            server.kill()


class Server:
    """A contender at work; ``log`` is where the effects of its tasks appear."""

    def __init__(self, contender: Contender, folder: Path, settings: dict[str, str]) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self._contender = contender
        self._settings = {"DATA_DIR": str(folder), **settings}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        app = "main:app" if contender.files else f"{SLUG}.main:app"
        self.api = self._start("uvicorn", app, "--port", str(port), *UVICORN)
        self.worker: Process | None = None

    def _start(self, program: str, *arguments: str) -> Process:
        project = self._contender.project
        cwd = self.folder if self._contender.files else project.path
        log = self.folder / f"{program}.log"
        return Process([project.bin(program), *arguments], cwd, log, **self._settings)

    def start_worker(self) -> Process:
        """Start a Celery worker with two processes."""
        app = "tasks" if self._contender.files else f"{SLUG}.worker"
        self.worker = self._start("celery", "-A", app, "worker", "-c2")
        return self.worker

    def answers(self) -> bool:
        """Tell whether it does; raises AssertionError with its log when it has ended."""
        if not self.api.alive():
            raise AssertionError(self.api.output())
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(self.url, timeout=5)
            return True
        return False

    def lines(self) -> int:
        """Return how many tasks have had their effect."""
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0

    def kill(self) -> None:
        """End it as a crash does."""
        for process in (self.api, self.worker):
            if process:
                process.kill()

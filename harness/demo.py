"""``make demo``: render a project, run it, do what the tutorial does with curl."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from .project import Project, bake
from .service import Service

REQUESTS = [
    ("/items/", {"name": "Lamp"}, "Item Lamp created successfully!"),
    ("/send-email/", {"email": "ada@example.com"}, "Email will be sent soon"),
]
FILES = {
    "log.txt": "Item Lamp was created.\n",
    "emails.log": "To: ada@example.com\nSubject: Welcome!\n\nThank you for signing up!\n\n",
}


def expect(got: object, promised: object) -> None:
    """Raise AssertionError unless they are equal."""
    if got != promised:
        raise AssertionError(f"expected {promised!r}, got {got!r}")


def show(service: Service) -> None:
    """Send the requests, print the answers and the files; raises AssertionError at a surprise."""
    task_ids = []
    for path, query, message in REQUESTS:
        response = service.post(path, params=query)
        print(f"\n$ curl -X POST '{response.url}'\n{response.status_code} {response.text}")
        expect(response.status_code, 202)
        expect(response.json()["message"], message)
        task_ids.append(response.json()["task_id"])
    for task_id in task_ids:
        status = service.wait_for_task(task_id)
        print(f"\n$ curl '{service.url}/tasks/{task_id}'\n{json.dumps(status)}")
        expect(status["status"], "succeeded")
    for name, expected in FILES.items():
        content = (service.data_dir / name).read_text("utf-8")
        print(f"\n$ cat {name}\n{content}", end="")
        expect(content, expected)


def render(folder: Path, backend: str) -> Project:
    """Render a project and make its environment, saying how long each took."""
    start = time.monotonic()
    print(f"Rendering a project on {backend} into {folder} ...", flush=True)
    project = bake(folder, task_backend=backend)
    baked = time.monotonic()
    print(f"Installing what it declares ... (rendered in {baked - start:.1f} s)", flush=True)
    project.sync()
    print(f"Starting it ... (installed in {time.monotonic() - baked:.1f} s)", flush=True)
    return project


def main() -> None:
    """Run the demo; exits with 1 when anything was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", choices=["BackgroundTasks", "Celery"])
    parser.add_argument("--keep", action="store_true", help="leave it running")
    options = parser.parse_args()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="fastapi-tasks-"))
    keep = False
    service = None
    try:
        project = render(folder, options.backend)
        service = Service(project, folder / "data")
        service.wait_until_ready()
        print(f"Ready {time.monotonic() - start:.1f} s after the first word.")
        show(service)
        keep = options.keep
    except (AssertionError, TimeoutError) as error:
        sys.exit(f"\nerror: {error}")
    finally:
        if service and not keep:
            service.stop()
    if keep:
        pids = [process.pid for process in (service.api, service.worker) if process]
        print(f"\nIt runs on: {service.url}/docs, from {project.path}")
        print(f"Stop it with: kill {' '.join(map(str, pids))}")
        return
    seconds = time.monotonic() - start
    print(f"\nAll as promised, in {seconds:.1f} s. The project is in {project.path}")


if __name__ == "__main__":
    main()

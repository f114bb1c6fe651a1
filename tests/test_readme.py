"""The rendered README: every command in it runs, and the task that it adds works."""

import re
import shlex
from pathlib import Path

import pytest

from harness.probes import add_task
from harness.project import SLUG, Project
from harness.service import Process, free_port, running, until

from .conftest import Bake

# Run elsewhere: the checks in test_quality.py; what needs an engine can't run here.
ELSEWHERE = ("uv run pytest", "uv run ruff", "uv run mypy", "docker")


def blocks(project: Project, language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", project.read("README.md"), re.M | re.S)


@pytest.fixture(scope="module", params=["BackgroundTasks", "Celery"])
def fresh(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Return a project just rendered, as its first reader finds it."""
    return bake(task_backend=request.param)


def test_every_command_runs(fresh: Project, tmp_path: Path) -> None:
    port = free_port()
    served: dict[str, Process] = {}
    tools = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    lines = [line for block in blocks(fresh, "sh") for line in block.splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", *ELSEWHERE))]
    assert len(commands) >= 6
    try:
        for number, line in enumerate(commands):
            command = shlex.split(line.replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1"))  # noqa: S104
            kind = next((word for word in ("uvicorn", "worker") if word in command), "")
            if not kind:
                if command[0] == "curl":
                    command[1:1] = ["--fail", "--silent", "--retry", "30", "--retry-connrefused"]
                    command[1:1] = ["--retry-delay", "1"]
                fresh.run(*command, **tools)
                continue
            if old := served.pop(kind, None):
                old.stop()
            if kind == "uvicorn" and "--port" not in command:
                command += ["--port", str(port)]
            log = tmp_path / f"{number}.log"
            started = served[kind] = Process(command, fresh.path, log)
            sign = "running on" if kind == "uvicorn" else " ready."
            until(lambda process=started, sign=sign: sign in process.output(), 60, line)  # type: ignore[misc]
    finally:
        for process in served.values():
            process.stop()
    assert (fresh.path / "data" / "log.txt").read_text() == "Item Lamp was created.\n"
    hook = (fresh.path / ".git" / "hooks" / "pre-commit").read_text()
    assert f"INSTALL_PYTHON={tools['UV_TOOL_DIR']}/" in hook  # not in uv's cache


@pytest.mark.xdist_group("mypy")
def test_the_task_that_it_adds_works(bake: Bake, fresh: Project, tmp_path: Path) -> None:
    celery = "celery" in fresh.read("pyproject.toml")
    project = bake(
        task_backend="Celery" if celery else "BackgroundTasks",
        include_email_task=False,
        include_log_task=False,
    )
    code = {
        block.splitlines()[0].removeprefix(f"# src/{SLUG}/"): block
        for block in blocks(project, "python")
    }
    add_task(project, "export", code["tasks/export.py"], "exports", code["api/exports.py"])
    project.sync()
    project.run("uv", "run", "ruff", "format", "--check")
    project.run("uv", "run", "mypy")
    with running(project, tmp_path / "data", API_KEY="open sesame") as service:
        assert service.client.post("/exports/", params={"report": "sales"}).status_code == 401
        service.client.headers["X-API-Key"] = "open sesame"
        response = service.client.post("/exports/", params={"report": "sales"})
        assert response.status_code == 202
        end = service.wait_for_task(response.json()["task_id"])
        assert (end["name"], end["status"]) == ("export", "succeeded")
        output = (service.worker or service.api).output
        until(lambda: "exporting sales" in output(), 10, "it has printed")


def test_a_task_in_a_package_of_its_own_is_found_too(bake: Bake) -> None:
    project = bake(task_backend="Celery")
    folder = project.path / "src" / SLUG / "tasks" / "reports"
    folder.mkdir()
    (folder / "__init__.py").touch()
    source = blocks(project, "python")[0].replace("..taskqueue", "...taskqueue")
    (folder / "sales.py").write_text(source)
    project.sync()
    listing = f"from {SLUG}.worker import app; print(*app.tasks)"
    assert "export" in project.run(project.bin("python"), "-c", listing).split()

"""The rendered README: every command in it runs, and the task that it adds works."""

import re
import shlex
from pathlib import Path

import httpx2
import pytest

from harness.probes import add_task
from harness.project import SLUG, Project
from harness.service import Process, free_port, running, until

from .conftest import Bake

# Run elsewhere: the checks in test_quality.py; what needs an engine can't run here.
ELSEWHERE = ("uv run pytest", "uv run ruff", "uv run mypy", "docker")

FRONT = "https://shop.example"


def blocks(project: Project, language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", project.read("README.md"), re.M | re.S)


@pytest.fixture(scope="module", params=["BackgroundTasks", "Celery"])
def fresh(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Return a project just rendered, as its first reader finds it."""
    return bake(task_backend=request.param)


def test_every_command_runs(fresh: Project, tmp_path: Path) -> None:
    fresh.sync()  # as `uv sync` does, and with the bytecode that other environments have made
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
        codes = {kind: process.stop() for kind, process in served.items()}
    assert f"`SuccessExitStatus={codes['uvicorn']}`" in fresh.read("README.md")
    assert (fresh.path / "data" / "log.txt").read_text() == "Item Lamp was created.\n"
    hook = (fresh.path / ".git" / "hooks" / "pre-commit").read_text()
    assert f"INSTALL_PYTHON={tools['UV_TOOL_DIR']}/" in hook  # not in uv's cache


def test_who_serves_every_host_is_told_to_be_in_production(
    extended: Project, tmp_path: Path
) -> None:
    told = re.search(
        r"^(Without containers.*?)\n\n```sh\n[^`]*?uvicorn (.*0\.0\.0\.0.*?)$",
        extended.read("README.md"),
        re.DOTALL | re.MULTILINE,
    )
    assert told
    settings = dict(re.findall(r"`([A-Z_]+)=?(\w*)`", told[1]))
    settings = {name: value or f"redis://:{name}@127.0.0.1:1" for name, value in settings.items()}
    port = free_port()
    command = [extended.bin("uvicorn"), *told[2].replace("8000", str(port)).split()]
    process = Process(command, extended.path, tmp_path / "log", **settings, DATA_DIR=str(tmp_path))
    try:
        until(lambda: " running on " in process.output(), 60, "it serves")
        response = httpx2.post(f"http://127.0.0.1:{port}/reports/", params={"report": "sales"})
        assert response.status_code == 401
    finally:
        process.stop()


IMPORTS = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from prometheus_client import Gauge
""".lstrip()
OWN = """
OPEN = Gauge("reports_open", "Reports that are open.", multiprocess_mode="mostrecent")


@router.get("/reports/")
async def read_reports() -> None:
    OPEN.set(1)
    raise NotImplementedError


@router.post("/uploads/", max_body_size=65_537)
async def upload(background_tasks: TaskQueue) -> None:
    return None


@asynccontextmanager
async def open_engine(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    print("engine opened")
    yield {"engine": "open"}


with_engine = APIRouter(lifespan=open_engine)


@with_engine.get("/engine/")
async def read_engine(request: Request) -> str:
    return str(request.state.engine)


router.include_router(with_engine)
"""


@pytest.fixture(scope="module")
def extended(bake: Bake, fresh: Project) -> Project:
    """Return a project without tasks to which all was added that the README tells how to add."""
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
    imported = "from fastapi import APIRouter\n"
    endpoint = code["api/reports.py"].replace(imported, IMPORTS)
    add_task(project, "export", code["tasks/export.py"], "reports", f"{endpoint}\n{OWN}")
    main, wrapped = f"src/{SLUG}/main.py", "security_headers(super().__call__)"
    cors = "from fastapi.middleware.cors import CORSMiddleware\n"
    project.replace(main, "from fastapi.mid", f"{cors}from fastapi.mid")
    project.replace(main, wrapped, f'CORSMiddleware({wrapped}, ["{FRONT}"])')
    project.replace(f"src/{SLUG}/settings.py", "    log_level", "    s3_bucket: str\n    log_level")
    for name, line in (
        (".env.example", "S3_BUCKET="),
        (".env", "S3_BUCKET=there"),
        ("tests/__init__.py", 'os.environ["S3_BUCKET"] = "here"'),
    ):
        with (project.path / name).open("a") as file:
            file.write(f"{line}\n")
    project.sync()
    return project


@pytest.mark.xdist_group("mypy")
def test_what_it_adds_works(extended: Project, tmp_path: Path) -> None:
    extended.run("uv", "run", "ruff", "format", "--check")
    extended.run("uv", "run", "mypy")
    readme = extended.read("README.md")
    settings = {"API_KEY": "open sesame", "PYTHONUNBUFFERED": "1"}  # as in the image: it prints
    with running(extended, tmp_path / "data", **settings) as service:
        client = service.client
        assert client.post("/reports/", params={"report": "sales"}).status_code == 401
        client.headers.update({"X-API-Key": "open sesame", "Origin": FRONT})
        client.headers["Sec-Fetch-Site"] = "cross-site"  # as a browser says of that front-end
        response = service.post("/reports/", params={"report": "sales"})
        assert response.status_code == 202
        end = service.wait_for_task(response.json()["task_id"])
        assert (end["name"], end["status"]) == ("export", "succeeded")
        output = (service.worker or service.api).output
        until(lambda: "exporting sales" in output(), 30, "it has printed")
        (cron,) = re.findall(r"`(curl .*) \.\.\.`", readme)
        told = [*("--header", "X-API-Key: open sesame"), f"{service.url}/reports/?report=stock"]
        assert '"task_id"' in extended.run(*cron.split(), *told)
        failed = client.get("/reports/", headers={"Connection": "close"})  # by uvicorn, then
        refused = client.post("/reports/", content=b"x" * 65_537)
        answers = failed, refused, response
        assert [answer.status_code for answer in answers] == [500, 413, 202]
        assert client.post("/uploads/", content=b"x" * 65_537).status_code == 200
        assert client.get("/engine/").json() == "open"
        opened = "engine opened" in output()  # by who runs the tasks
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == FRONT
        assert "\nreports_open 1.0\n" in client.get("/metrics").text
    assert "wrap `security_headers(...)`" in readme
    assert "such as `mostrecent`" in readme
    assert "`APIRouter(lifespan=...)`" in readme
    assert ("A worker opens no router's lifespan." in readme) != opened
    assert "own `max_body_size`" in " ".join(readme.split())


TESTED = f"""
import asyncio
from datetime import date

from pydantic import BaseModel

from {SLUG}.api.reports import create_report
from {SLUG}.taskqueue.queue import PendingTasks
from {SLUG}.tasks.export import export

class Report(BaseModel):
    day: date

pending = PendingTasks()
asyncio.run(create_report("sales", pending))
pending.add_task(export, Report(day="2026-11-26").model_dump(mode="json"))
for call in pending.calls:
    print(call.name, call.arguments)
export("stock")
"""


def test_tests_of_ones_own_are_as_it_says(extended: Project, tmp_path: Path) -> None:
    told = extended.run(extended.bin("python"), "-c", TESTED, DATA_DIR=str(tmp_path))
    assert told.splitlines()[-3:] == [
        'export {"report": "sales"}',
        'export {"report": {"day": "2026-11-26"}}',
        "exporting stock",
    ]
    readme = extended.read("README.md")
    places = re.search(r"^In `src/.*?\n\n", readme, re.DOTALL | re.MULTILINE)
    assert places
    for place in re.findall(r"`(\w+(?:/|\.py))`", places[0]):
        assert (extended.path / "src" / SLUG / place).exists(), place
    assert '`model_dump(mode="json")`' in readme
    assert "`PendingTasks()`" in readme
    assert "whose `calls` have the `name` and the `arguments`, as JSON" in readme
    shared = "scope=" in extended.read("tests/conftest.py")
    assert ("on one `DATA_DIR` for all tests" in readme) == shared
    assert ("run a task that needs it by `attempt()`" in readme) == shared


def test_a_setting_of_ones_own_is_as_it_says(extended: Project) -> None:
    extended.run(extended.bin("pytest"), "tests/test_settings.py", "-k", "example")
    readme = " ".join(extended.read("README.md").split())
    assert "one without a default has its value for the tests in `tests/__init__.py`" in readme


def test_an_async_test_needs_a_mark_only(extended: Project, tmp_path: Path) -> None:
    (mark,) = re.findall("An `async` test needs `@(.*?)`", extended.read("README.md"))
    test = tmp_path / "test_async.py"
    test.write_text(f"import pytest\n\n@{mark}\nasync def test_it():\n    pass\n")
    extended.run(extended.bin("pytest"), "-c", "pyproject.toml", str(test))


CALLED = f"""
import inspect
import logging

import httpx2

from {SLUG}.logs import configure_logging
from {SLUG}.settings import get_settings
from {SLUG}.taskqueue import task

options = inspect.signature(task).parameters
print(*(f"`{{name}}` ({{options[name].default}})" for name in options), sep=chr(10))
configure_logging(get_settings())
client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)))
client.get("http://first.example/?secret")
logging.getLogger("httpx2").setLevel("WARNING")
client.get("http://second.example/?secret")
"""


def test_options_and_logs_of_tasks_are_as_it_says(extended: Project, tmp_path: Path) -> None:
    told = extended.run(extended.bin("python"), "-c", CALLED, DATA_DIR=str(tmp_path))
    readme = " ".join(extended.read("README.md").split())
    options = re.findall(r"^`\w+` \(.*\)$", told, re.MULTILINE)
    assert len(options) == 4
    for option in options[1:]:  # after retry_on
        assert option.replace(".0)", ")") in readme
    assert re.findall(r"//(\w+)\.example/\?secret", told) == ["first"]
    assert "set its logger to `WARNING`" in readme


BEAT = f"""
from fastapi.testclient import TestClient
from {SLUG}.main import app
from {SLUG}.worker import app as worker

def run(args):
    task = worker.tasks["export"].apply(args)
    print(TestClient(app).get(f"/tasks/{{task.id}}").json()["status"])

run"""


def test_beat_sends_what_a_worker_runs(extended: Project, tmp_path: Path) -> None:
    readme = extended.read("README.md")
    sent = re.search(r"`args` are one JSON text:\s+`(.*?)`", readme)
    beat = re.search(r"^  `uv run (celery .* beat)`", readme, re.MULTILINE)
    assert bool(sent) == bool(beat) == ("celery" in extended.read("pyproject.toml"))
    if sent and beat:
        code = f"{BEAT}({sent[1]})"
        told = extended.run(extended.bin("python"), "-c", code, DATA_DIR=str(tmp_path))
        assert {"exporting sales", "succeeded"} <= {*told.splitlines()}
        program, *options = beat[1].split()
        command = [extended.bin(program), *options]
        production = {"ENVIRONMENT": "production", "API_KEY": "key", "DATA_DIR": str(tmp_path)}
        production["CELERY_BROKER_URL"] = "redis://127.0.0.1:1"  # asked once a task is due
        process = Process(command, extended.path, tmp_path / "log", **production)
        try:
            # The image's own folder can't be written to.
            until(lambda: [*tmp_path.glob("celerybeat-schedule*")], 60, "beat keeps its schedule")
        finally:
            process.stop()
        output = process.output()
        assert all(line.startswith("{") for line in output.splitlines()), output  # no banner


PARALLEL = f"""
import asyncio
from concurrent.futures import ThreadPoolExecutor

from {SLUG}.taskqueue import add_task, current_task_id, task
from {SLUG}.taskqueue.task import Call, attempt
from {SLUG}.tasks.export import export

async def fail():
    raise OSError

@task(retry_on=(OSError,))
async def alone():
    await fail()

@task(retry_on=(OSError,))
async def grouped():
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())

@task()
def spread():
    with ThreadPoolExecutor() as pool:
        print(pool.submit(current_task_id).result() == current_task_id())

@task()
def first():
    add_task(export, "sales")

print(*(attempt(Call.of(each), 1).status for each in (alone, grouped, spread)))
outcome = attempt(Call.of(first), 1)
print(outcome.status, outcome.error, *(call.name for call in outcome.added))
"""


def test_what_runs_beside_a_task_is_as_it_says(extended: Project, tmp_path: Path) -> None:
    told = extended.run(extended.bin("python"), "-c", PARALLEL, DATA_DIR=str(tmp_path))
    assert told.splitlines()[-3:] == ["False", "retrying failed succeeded", "succeeded None export"]
    readme = extended.read("README.md")
    assert "any in the `ExceptionGroup`" in readme
    assert '`add_task(export, "sales")` from `taskqueue`' in readme
    assert '`attempt(Call.of(export, "sales"), 1)`' in readme
    assert "`retry_on` (none, by default)" in readme
    assert "but not in a thread that the task starts" in readme
    has_backlog = "TASK_BACKLOG=" in extended.read(".env.example")
    assert ("counts in `TASK_BACKLOG`" in readme) == has_backlog


MOUNTED = f"""
from fastapi import FastAPI, Response, Security
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient
from {SLUG}.api.reports import router
from {SLUG}.api.security import require_api_key
from {SLUG}.main import app
from {SLUG}.taskqueue import Unavailable

protected = {{"dependencies": [Security(require_api_key)]}}  # as in main.py
mounted = FastAPI(**protected)
mounted.state = app.state
mounted.include_router(router)
app.mount("/v1", mounted)

async def fail(_):
    raise Unavailable("full")

with TestClient(app) as client:
    print(client.post("/v1/reports/?report=sales").status_code)
    client.headers["X-API-Key"] = "open sesame"
    print(client.post("/v1/reports/?report=sales").status_code)
    app.state.backend.store = fail
    print(client.post("/v1/reports/?report=sales").status_code)

mounted.mount("/static", StaticFiles(directory="src/{SLUG}"))

@mounted.get("/page")
async def read_page() -> Response:
    headers = {{"Content-Security-Policy": "style-src 'self'", "Cache-Control": "max-age=60"}}
    return Response(headers=headers)

for path in ("/v1/static/main.py", "/v1/page"):
    headers = client.get(path).headers
    print(headers.get_list("Content-Security-Policy"), headers.get_list("Cache-Control"))
"""


def test_what_is_mounted_is_as_it_says(extended: Project, tmp_path: Path) -> None:
    settings = {"API_KEY": "open sesame", "DATA_DIR": str(tmp_path)}
    told = extended.run(extended.bin("python"), "-c", MOUNTED, **settings)
    assert re.findall(r"^\d{3}$", told, re.MULTILINE) == ["401", "202", "503"]
    readme = " ".join(extended.read("README.md").split())
    assert "by `FastAPI(**protected)`" in readme
    assert "set `mounted.state = app.state`" in readme
    assert """["default-src 'none'; frame-ancestors 'none'"] ['no-store']""" in told
    assert """["style-src 'self'"] ['max-age=60']""" in told
    assert "of your own a `Content-Security-Policy` and a `Cache-Control`" in readme


COMMITTED = f"""
from fastapi import APIRouter, Depends
from fastapi.testclient import TestClient
from {SLUG}.main import app
from {SLUG}.taskqueue import TaskQueue, TaskRoute, Unavailable
from {SLUG}.tasks.export import export

async def session():
    yield
    print("committed")

async def fail(_):
    print("refused")
    raise Unavailable("full")

router = APIRouter(route_class=TaskRoute, dependencies=[Depends(session, scope="function")])

@router.post("/orders/")
async def create_order(background_tasks: TaskQueue):
    background_tasks.add_task(export, "sales")

app.include_router(router)
app.state.backend.store = fail
print(TestClient(app).post("/orders/").status_code)
"""


def test_a_commit_comes_before_the_task_as_it_says(extended: Project, tmp_path: Path) -> None:
    told = extended.run(extended.bin("python"), "-c", COMMITTED, DATA_DIR=str(tmp_path))
    assert re.findall(r"^(?:committed|refused|503)$", told, re.MULTILINE) == [
        "committed",
        "refused",
        "503",
    ]
    readme = " ".join(extended.read("README.md").split())
    assert '`Depends(session, scope="function")`' in readme
    assert "What it committed stays if the task gets a 503" in readme


STOPS = f"""
from {SLUG}.taskqueue import task

@task()
def stop():
    breakpoint()

from {SLUG}.worker import app
"""


def test_a_debugger_stops_in_a_task_as_it_says(extended: Project, tmp_path: Path) -> None:
    readme = extended.read("README.md")
    pools = re.findall(r"`breakpoint\(\)`.*?`(--pool=\w+)`", readme, re.DOTALL)
    # Without Celery a task runs in the terminal's own process.
    assert len(pools) == ("celery" in extended.read("pyproject.toml"))
    (tmp_path / "stops.py").write_text(STOPS)
    settings = {"DATA_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    send = "import stops; stops.app.send_task('stop', args=['{}'])"
    typed = r"p 6 * 7\nimport os\nos._exit(0)\n"
    for pool in pools:
        extended.run(extended.bin("python"), "-c", send, **settings)
        worker = f"printf '{typed}' | .venv/bin/celery -A stops worker {pool}"
        assert "(Pdb) 42" in extended.run("timeout", "60", "sh", "-c", worker, **settings)


def test_a_task_in_a_package_of_its_own_or_elsewhere_is_found_too(bake: Bake) -> None:
    project = bake(task_backend="Celery")
    package = project.path / "src" / SLUG
    folder = package / "tasks" / "reports"
    folder.mkdir()
    (folder / "__init__.py").touch()
    source = blocks(project, "python")[0]
    (folder / "sales.py").write_text(source.replace("..taskqueue", "...taskqueue"))
    own = source.replace("..taskqueue", ".taskqueue").replace("def export", "def bill")
    (package / "billing.py").write_text(own)
    project.sync()
    listing = f"from {SLUG}.worker import app; print(*app.tasks)"
    command = project.bin("python"), "-c", listing
    assert {"export", "bill"} & {*project.run(*command).split()} == {"export"}
    with (package / "tasks" / "__init__.py").open("a") as tasks:
        tasks.write("from .. import billing as billing\n")
    assert {"export", "bill"} <= {*project.run(*command).split()}
    told = "have `tasks/__init__.py` import any others that hold tasks"
    assert told in " ".join(project.read("README.md").split())

"""The rendered Dockerfile: its instructions carried out, its images run, probed and stopped."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.measure import memory
from harness.container import Container, Stage, build
from harness.project import SLUG, Project
from harness.service import until

from .conftest import Bake, need

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ,
    reason="a container needs root, for namespaces and mounts",
)
KEY = "open sesame"
BROKER = "redis://127.0.0.1:6379/0"

# For each backend a group of its own: its image is built once.
BACKENDS = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"image-{name}"))
    for name in ("BackgroundTasks", "Celery")
]
Run = Callable[..., Container]


@pytest.fixture(scope="module", params=BACKENDS)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    """Return a project as it may lie on a developer's disk."""
    project = bake(task_backend=request.param)
    for name in (
        ".env",
        "src/.env",
        "data/log.txt",
        ".git/config",
        f"src/{SLUG}/__pycache__/a.pyc",
    ):
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text("API_KEY=secret\n")
    if request.param == "Celery":  # the other has no uv.lock
        project.run("uv", "lock", "--quiet", "--upgrade-package", "idna==3.10")
    return project


@pytest.fixture(scope="module")
def images(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Build its images."""
    folder = tmp_path_factory.mktemp("images")
    folder.chmod(0o755)
    return build(project.path, folder)


@pytest.fixture
def run(images: dict[str, Stage], tmp_path: Path) -> Iterator[Run]:
    """Return a function that runs an image until the test ends."""
    with ExitStack() as stack:

        def run(image: Stage, **options: Any) -> Container:
            log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
            container = Container(image, log, **options)
            stack.callback(container.kill)
            return container

        yield run


def curl(container: Container, method: str, path: str) -> dict[str, Any]:
    """Send a request from within."""
    code = f"""
import time, urllib.error, urllib.request
request = urllib.request.Request(
    "http://127.0.0.1:8000{path}", method="{method}", headers={{"X-API-Key": "{KEY}"}}
)
for attempt in range(10):
    try:
        print(urllib.request.urlopen(request, timeout=10).read().decode())
        break
    except urllib.error.HTTPError as error:  # a busy machine: nothing was stored
        if error.code != 503 or attempt == 9:
            raise
        time.sleep(1)
"""
    result = container.exec("python", "-c", code)
    assert result.returncode == 0, result.stderr + container.output()
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def succeeded(container: Container, task_id: str) -> bool:
    return bool(curl(container, "GET", f"/tasks/{task_id}")["status"] == "succeeded")


def start(
    run: Run, images: dict[str, Stage], compose: dict[str, Any]
) -> tuple[Container, list[Container]]:
    """Start the service and, where there is one, its worker, as compose.yaml has them."""
    options: dict[str, dict[str, Any]] = {
        name: {
            **{setting: str(value) for setting, value in service["environment"].items()},
            **{"tmpfs": service["tmpfs"], "API_KEY": KEY, "ALLOWED_HOSTS": "api.example.com"},
        }
        for name, service in compose.items()
        if name in images
    }
    if "worker" not in images:
        return run(images["api"], **options["api"]), []
    need("redis-server")
    command = tuple(compose["broker"]["command"].split())
    broker = run(replace(images["python"], command=(*command, "--dir", "/mnt")), tmpfs=["/mnt"])
    until(
        lambda: broker.exec(*compose["broker"]["healthcheck"]["test"][1:]).stdout == "PONG\n",
        60,
        "the broker answers",
    )
    worker, api = (
        run(images[name], beside=broker, **options[name] | {"CELERY_BROKER_URL": BROKER})
        for name in ("worker", "api")
    )
    return api, [worker]


def test_it_runs_without_root_without_writing_and_stops_in_time(
    run: Run, images: dict[str, Stage], project: Project
) -> None:
    compose = yaml.safe_load(project.read("compose.yaml"))["services"]
    assert compose["api"]["read_only"]
    api, workers = start(run, images, compose)
    for container in (api, *workers):
        until(lambda it=container: it.healthy(), 60, "it is healthy")  # type: ignore[misc]
        assert container.exec("id", "--user").stdout != "0\n"
        assert container.exec("touch", "/app/file").returncode != 0
        assert container.exec("touch", "/data/file").returncode == 0
    proxy = "http_proxy=http://127.0.0.1:1"  # which Docker may give to every container
    assert api.exec("env", proxy, *images["api"].health).returncode == 0
    task_id = curl(api, "POST", "/items/?name=Lamp")["task_id"]
    until(lambda: succeeded(api, task_id), 30, "the task succeeds")
    (writer,) = workers or [api]
    assert writer.exec("cat", "/data/log.txt").stdout == "Item Lamp was created.\n"
    for worker in workers:  # Prometheus sees it
        url = f"http://127.0.0.1:{compose['worker']['environment']['METRICS_PORT']}/metrics"
        code = f"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())"
        assert 'task_attempts_total{outcome="succeeded",task="write_log"} 1.0' in (
            worker.exec("python", "-c", code).stdout
        )
    pods = re.findall(r"requests:.*?memory: (\d+)Mi", project.read("kubernetes.yaml"), re.DOTALL)
    for container, asked in zip((api, *workers), pods, strict=True):
        assert 30 < memory(container.first()) < int(asked)
    grace = float(compose["api"]["stop_grace_period"].removesuffix("s"))
    for container in (api, *workers):
        assert container.stop(seconds=grace) == 0, container.output()
        assert "Traceback" not in container.output()
        for line in container.output().splitlines():
            json.loads(line)
    assert "Application shutdown complete." in api.output()


def test_the_health_check_can_fail(run: Run, images: dict[str, Stage]) -> None:
    settings = {"API_KEY": KEY, "CELERY_BROKER_URL": BROKER}
    for image in images.values():
        if image.health:
            command = ("python", "-c", "import time; print('idle'); time.sleep(60)")
            idle = run(replace(image, command=command), **settings)
            until(lambda it=idle: it.output() == "idle\n", 60, "what it prints is seen at once")  # type: ignore[misc]
            assert not idle.healthy()
            process = Path(f"/proc/{idle.first()}")
            idle.kill()
            assert not process.exists()


def test_it_is_for_production_unless_told_otherwise(run: Run, images: dict[str, Stage]) -> None:
    refused = run(images["api"], tmpfs=["/tmp"])  # noqa: S108, the image's own
    until(lambda: not refused.alive(), 60, "it stops")
    assert "API_KEY must be set when ENVIRONMENT=production" in refused.output()
    assert "Traceback" not in refused.output()


def test_a_secret_is_read_where_docker_mounts_it(run: Run, images: dict[str, Stage]) -> None:
    mount = f"mkdir /run/secrets && echo '{KEY}' > /run/secrets/api_key && exec "
    command = ("sh", "-c", mount + shlex.join(images["api"].command))
    options: dict[str, Any] = {"tmpfs": ["/run", "/tmp"], "CELERY_BROKER_URL": BROKER}  # noqa: S108
    api = run(replace(images["api"], command=command), **options)
    until(api.healthy, 60, "it is healthy, so that it has its key")


def test_nothing_but_the_environment_is_in_it(images: dict[str, Stage], project: Project) -> None:
    root = images["api"].root
    assert {path.name for path in root.iterdir()} == {"app", "data", "etc"}
    assert [path.name for path in (root / "app").iterdir()] == [".venv"]
    assert not list((root / "data").iterdir())
    assert not (root / "app/.venv/bin/uv").exists()
    assert not list(root.rglob("pytest-*"))  # nor any of the development tools
    packages = next((root / "app/.venv/lib").glob("*/site-packages"))
    assert (packages / SLUG / "main.py").is_file()
    # Where it came from has no more than it needs: no .env, no .git, no data.
    sent = {path.name for path in (images["build"].root / "app").iterdir()}
    sources = {"LICENSE", "README.md", "pyproject.toml", "src", "uv.lock"}
    assert sent == sources | {".venv"}
    assert not (images["build"].root / f"app/src/{SLUG}/__pycache__/a.pyc").exists()
    # uv.lock was taken over where there was one.
    locked = (project.path / "uv.lock").exists()
    assert (packages / "idna-3.10.dist-info").exists() == locked
    # Bytecode too: nothing can be written there later.
    assert list(packages.glob(f"{SLUG}/__pycache__/main.*.pyc"))

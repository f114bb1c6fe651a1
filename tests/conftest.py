"""Fixtures: ``bake`` renders a project; ``variant`` is one of them all, with its environment."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jinja2 import Environment
from pytest_cookies.plugin import Cookies

from harness import servers
from harness.probes import add_probes
from harness.project import SLUG, TEMPLATE, Project
from harness.repository import git
from harness.servers import RabbitMQ, S, missing

from .variants import FULL, VARIANTS, Variant

# For what does not depend on which tasks are chosen: a start takes a processor half a second.
on_each_backend = pytest.mark.parametrize(
    "variant", FULL, ids=lambda variant: variant.backend, indirect=True
)

# RabbitMQ takes five seconds of a processor to start: one for all tests that leave it in peace.
in_peace = pytest.mark.xdist_group("rabbitmq")

Bake = Callable[..., Project]
Install = Callable[[Variant], Project]
Once = Callable[[str, Callable[[Path], object]], Path]


def lack(what: str) -> NoReturn:
    """Skip on a machine that lacks something, but not where CI says that all must run."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def need(*programs: str) -> None:
    """Skip on a machine without these programs, see ``lack``."""
    if lacking := missing(*programs):
        lack(f"not installed: {', '.join(lacking)}")


def started(server: S) -> AbstractContextManager[S]:
    """Run a server until the block ends; one that is not installed skips the test, see ``need``."""
    need(*server.programs)
    return servers.started(server)


DELIVERY = {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": ""}}


def forged(**odd: object) -> str:
    """Return a message for Redis that looks like one of a task, but for something odd."""
    message = {
        "body": "",
        "headers": {"task": "write_log", "id": "b" * 32},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"body_encoding": "base64", **DELIVERY},
    }
    return json.dumps(message | odd)


def reason(output: str) -> str:
    """Return the one line in which a program says why it ended, instead of a traceback."""
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


REFUSE = f"""
import json, os, sys

from {SLUG}.main import create_app
from {SLUG}.settings import get_settings

for settings in map(json.loads, sys.argv[1:]):
    os.environ |= settings
    get_settings.cache_clear()
    try:
        create_app()
    except SystemExit:
        for name in settings:
            del os.environ[name]
"""


def refusals(project: Project, data_dir: Path, cases: list[dict[str, str]]) -> list[str]:
    """Return the lines in which the service refuses each case, in one process for all of them."""
    command = (project.bin("python"), "-c", REFUSE, *map(json.dumps, cases))
    told = project.run(*command, DATA_DIR=str(data_dir))
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(cases), told
    return lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is marked as long."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def bake(cookies_session: Cookies) -> Bake:
    """Return a function that renders the template with the given answers."""

    def bake(**answers: object) -> Project:
        result = cookies_session.bake(extra_context=answers, template=str(TEMPLATE))
        assert result.exception is None, result.exception
        return Project(Path(result.project_path))

    return bake


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Run a RabbitMQ that its tests leave in peace, see ``in_peace``."""
    with started(RabbitMQ(tmp_path_factory.mktemp("calm") / "rabbitmq")) as server:
        yield server


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all of xdist's workers share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """Return what patches for the whole session."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session", autouse=True)
def _surroundings(
    place: Path, tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch
) -> None:
    """Give tools what spares them work, and keep a developer's machine and the tests apart."""
    # The libraries are compiled once for all environments: it takes longer than to start a service.
    patch.setenv("SHARED_BYTECODE", str(place / "bytecode"))
    # mypy's cache goes from one project to the next: most of its work is the libraries'.
    patch.setenv("MYPY_CACHE_DIR", str(tmp_path_factory.mktemp("mypy")))
    # Of two projects' own tests that clear away one old folder at once, one fails.
    patch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path_factory.mktemp("pytest")))
    # Where cookiecutter leaves the hooks of each bake, pytest clears away.
    patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("hooks")))
    # Git sets them for its hooks and `rebase --exec`: tests would commit to the developer's branch.
    for name in git(TEMPLATE, "rev-parse", "--local-env-vars").split():
        patch.delenv(name, raising=False)
    config = tmp_path_factory.mktemp("git") / "config"
    # A developer's own is kept out, but for whose repositories may be read.
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n[safe]\n\tdirectory = *\n")
    patch.setenv("GIT_CONFIG_GLOBAL", str(config))
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # A make that make runs heeds its options, and says more; cookiecutter has a file to read.
    for name in ("MAKEFLAGS", "MAKELEVEL", "COOKIECUTTER_CONFIG"):
        patch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _compiled_templates(patch: pytest.MonkeyPatch) -> None:
    """Keep what Jinja compiles from one bake in this process to the next: it is most of each."""
    compiled: dict[object, Any] = {}
    compile_: Any = Environment.compile

    def compile_once(environment: Environment, source: str, *names: str | None) -> Any:
        key = environment.lexer, source, names  # a lexer stands for all the options of Jinja
        if key not in compiled:
            compiled[key] = compile_(environment, source, *names)
        return compiled[key]

    patch.setattr(Environment, "compile", compile_once)


@pytest.fixture(scope="session")
def once(place: Path) -> Once:
    """Return a function that has one of xdist's workers make a folder, for all of them."""

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = place / name, place / f"{name}.done"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session", params=VARIANTS, ids=lambda variant: variant.id)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Return each of the variants in turn."""
    variant: Variant = request.param
    return variant


@pytest.fixture(scope="session")
def project(variant: Variant, bake: Bake, once: Once) -> Project:
    """Return the variant, rendered; leave it as it is."""
    return Project(once(variant.id, lambda to: shutil.copytree(bake(**variant.answers).path, to)))


@pytest.fixture(scope="session")
def install(bake: Bake, once: Once) -> Install:
    """Return a function that gives a variant an environment, from nothing but what it declares."""

    def make(variant: Variant, folder: Path) -> None:
        Project(shutil.copytree(bake(**variant.answers).path, folder)).sync()

    def install(variant: Variant) -> Project:
        return Project(once(f"{variant.id}-installed", lambda folder: make(variant, folder)))

    return install


@pytest.fixture(scope="session")
def installed(variant: Variant, install: Install) -> Project:
    """Return the variant with an environment of its own."""
    return install(variant)


@pytest.fixture(scope="session")
def probed(bake: Bake, once: Once) -> Callable[[str], Project]:
    """Return a function that gives a backend's project with a task that does what a test asks."""

    def make(backend: str, folder: Path) -> None:
        project = Project(shutil.copytree(bake(task_backend=backend).path, folder))
        add_probes(project)
        project.sync()

    def probed(backend: str) -> Project:
        return Project(once(f"{backend}-probed", lambda folder: make(backend, folder)))

    return probed

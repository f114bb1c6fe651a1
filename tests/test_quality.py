"""Each variant by its own tools, in its own environment."""

import os
from pathlib import Path

import pytest

from harness.project import Project

from .conftest import on_each_backend
from .variants import FULL, Variant

PLUGINS = "pytest-xdist,pytest-randomly"


def test_is_lint_clean(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "check", "--no-cache")


def test_is_formatted(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "format", "--check", "--no-cache")


@pytest.mark.xdist_group("mypy")  # on one worker, for its cache
def test_is_typed(installed: Project) -> None:
    installed.run("uv", "run", "mypy")


@pytest.mark.xdist_group("mypy-win32")
@on_each_backend
def test_is_typed_on_windows_too(installed: Project) -> None:
    cache = f"{os.environ['MYPY_CACHE_DIR']}-win32"
    installed.run("uv", "run", "mypy", "--platform", "win32", MYPY_CACHE_DIR=cache)


def test_its_own_tests_pass_whatever_a_developer_has_set(
    installed: Project, variant: Variant, tmp_path: Path
) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "API_KEY": "a developer's",
        "DATA_DIR": str(tmp_path / "data"),
        "CELERY_BROKER_URL": "redis://127.0.0.1:1",
        "BROKER_URL": "redis://127.0.0.1:1",
        "RESULT_BACKEND": "redis://127.0.0.1:1",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "1",
        "EMAIL_FROM": "developer@example.com",
    }
    (tmp_path / ".env").write_text("".join(f"{key}={settings[key]}\n" for key in settings))
    # From there, as others use the project meanwhile, and would read its .env.
    command = ("uv", "run", "--project", str(installed.path), "--with", PLUGINS, "pytest")
    # In parallel where all tests are that the other variants have: it takes twice the processor.
    options = ("-n2" if variant in FULL else "-n0", "--randomly-seed=1", str(installed.path))
    assert " passed" in Project(tmp_path).run(*command, *options, **settings)
    assert {path.name for path in tmp_path.iterdir()} == {".env"}


def test_builds(installed: Project) -> None:
    installed.run("uv", "build", "--quiet")
    assert len(list((installed.path / "dist").glob("*.whl"))) == 1

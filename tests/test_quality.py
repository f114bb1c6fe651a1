"""Each variant by its own tools, in its own environment."""

import os
import sys
from pathlib import Path

import pytest

from harness.project import Project

PLUGINS = "pytest-xdist,pytest-randomly"


def test_is_lint_clean(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "check", "--no-cache")


def test_is_formatted(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "format", "--check", "--no-cache")


@pytest.mark.xdist_group("mypy")  # on one worker, for its cache
@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_is_typed(installed: Project, platform: str) -> None:
    cache = os.environ["MYPY_CACHE_DIR"] + ("" if platform == sys.platform else f"-{platform}")
    installed.run("uv", "run", "mypy", "--platform", platform, MYPY_CACHE_DIR=cache)


def test_its_own_tests_pass_in_parallel_and_whatever_a_developer_has_set(
    installed: Project, tmp_path: Path
) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "API_KEY": "a developer's",
        "DATA_DIR": str(tmp_path / "data"),
        "CELERY_BROKER_URL": "redis://127.0.0.1:1",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "1",
        "EMAIL_FROM": "developer@example.com",
    }
    (tmp_path / ".env").write_text("".join(f"{key}={settings[key]}\n" for key in settings))
    # From there, as others use the project meanwhile, and would read its .env.
    command = ("uv", "run", "--project", str(installed.path), "--with", PLUGINS, "pytest")
    options = ("-n2", "--randomly-seed=1", str(installed.path))
    assert " passed" in Project(tmp_path).run(*command, *options, **settings)
    assert not (tmp_path / "data").exists()


def test_builds(installed: Project) -> None:
    installed.run("uv", "build", "--quiet")
    assert len(list((installed.path / "dist").glob("*.whl"))) == 1

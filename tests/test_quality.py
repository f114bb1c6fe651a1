"""Each variant by its own tools, in its own environment."""

import pytest

from harness.project import Project


def test_is_lint_clean(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "check", "--no-cache")


def test_is_formatted(installed: Project) -> None:
    installed.run("uv", "run", "ruff", "format", "--check", "--no-cache")


@pytest.mark.xdist_group("mypy")  # on one worker, for its cache
def test_is_typed(installed: Project) -> None:
    installed.run("uv", "run", "mypy")


def test_its_own_tests_pass(installed: Project) -> None:
    assert " passed" in installed.run("uv", "run", "pytest")


def test_builds(installed: Project) -> None:
    installed.run("uv", "build", "--quiet")
    assert len(list((installed.path / "dist").glob("*.whl"))) == 1

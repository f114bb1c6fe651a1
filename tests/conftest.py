"""Fixtures: ``bake`` renders a project; ``variant`` is one of them all, with its environment."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_cookies.plugin import Cookies

from harness.probes import add_probes
from harness.project import TEMPLATE, Project

from .variants import VARIANTS, Variant

Bake = Callable[..., Project]


@pytest.fixture(scope="session")
def bake(cookies_session: Cookies) -> Bake:
    """Return a function that renders the template with the given answers."""

    def bake(**answers: object) -> Project:
        result = cookies_session.bake(extra_context=answers, template=str(TEMPLATE))
        assert result.exception is None, result.exception
        return Project(Path(result.project_path))

    return bake


# One group for each variant: its tests run on one xdist worker, which makes its environment once.
@pytest.fixture(
    scope="session",
    params=[
        pytest.param(variant, id=variant.id, marks=pytest.mark.xdist_group(variant.id))
        for variant in VARIANTS
    ],
)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Return each of the variants in turn."""
    variant: Variant = request.param
    return variant


@pytest.fixture(scope="session")
def project(variant: Variant, bake: Bake) -> Project:
    """Return the variant, rendered."""
    return bake(**variant.answers)


@pytest.fixture(scope="session")
def installed(project: Project) -> Project:
    """Return the variant with an environment of its own, from nothing but what it declares."""
    project.sync()
    return project


def install_with_probes(bake: Bake, backend: str) -> Project:
    """Return an installed project with a task that does what a test asks for."""
    project = bake(task_backend=backend)
    add_probes(project)
    project.sync()
    return project

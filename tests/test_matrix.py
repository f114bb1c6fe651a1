"""Every variant's own tools, on each Python and with the newest and the lowest dependencies."""

import functools
import itertools
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from harness.project import TEMPLATE, environment

from .conftest import Bake, lack
from .variants import FULL, VARIANTS, Variant

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
RESOLUTIONS = ["lowest-direct", "highest"]


@functools.cache
def interpreter(version: str) -> str:
    """Return the path of an installed Python, uv's, pyenv's or on the PATH; or nothing."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [str(path) for path in root.glob(f"versions/{version}.*/bin")]
    env = environment()
    command = [uv.find_uv_bin(), "python", "find", version, "--system", "--no-project"]
    found = subprocess.run(
        [*command, "--no-python-downloads"],
        env=env | {"PATH": os.pathsep.join([*places, env["PATH"]])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def cells() -> Iterator[object]:
    """Yield every cell; `make test-matrix` runs all, the ordinary suite the ends."""
    ends = [("3.11", "lowest-direct", FULL[-1]), *(("3.13", "highest", each) for each in FULL)]
    for python, resolution, variant in itertools.product(PYTHONS, RESOLUTIONS, VARIANTS):
        ordinary = (python, resolution, variant) in ends
        yield pytest.param(
            *(python, resolution, variant),
            id=f"{python}-{resolution}-{variant.id}",
            marks=[
                pytest.mark.xdist_group(f"{python}-{resolution}"),  # for mypy's cache
                *([] if ordinary else [pytest.mark.matrix]),
            ],
        )


@pytest.mark.parametrize(("python", "resolution", "variant"), list(cells()))
def test_passes_its_own_checks(
    python: str, resolution: str, variant: Variant, bake: Bake, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (path := interpreter(python)):
        lack(f"no Python {python} here: uv python install {python}")
    project = bake(**variant.answers)
    monkeypatch.setenv("SHARED_BYTECODE", f"{os.environ['SHARED_BYTECODE']}-{resolution}")
    project.sync("--resolution", resolution, python=path)
    run = functools.partial(project.run, "uv", "run", "--no-sync")
    assert run("python", "--version").startswith(f"Python {python}.")
    assert re.search(r"\d passed in ", run("pytest"))  # and no warnings, which are errors
    if resolution == "lowest-direct":  # the newest are test_quality's
        run("ruff", "check")
        run("ruff", "format", "--check")
        run("mypy")


def test_tools_have_one_version_in_the_template_and_in_what_it_renders(bake: Bake) -> None:
    def tools(text: str) -> dict[str, str]:
        """Return the lower bound of each development dependency, by its name."""
        requirements = tomllib.loads(text)["dependency-groups"]["dev"]
        return dict(re.findall(r"(?m)^([\w-]+)>=([\d.]+)", "\n".join(requirements)))

    ours = tools((TEMPLATE / "pyproject.toml").read_text("utf-8"))
    for variant in VARIANTS:
        theirs = tools(bake(**variant.answers).read("pyproject.toml"))
        assert {"mypy", "pytest", "ruff"} <= theirs.keys()
        for name in ours.keys() & theirs.keys():
            assert theirs[name] == ours[name]

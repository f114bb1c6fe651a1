"""The same project on every machine: whoever bakes it, wherever it is checked out."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.project import SLUG, TEMPLATE, Project, environment
from harness.repository import begin, git, snapshot
from hooks.pre_gen_project import DEVICES

from .conftest import Bake
from .rendering import CHOICES, ROOT, Answers, render, typed
from .variants import VARIANTS, Variant

ALL = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
OWNERS = 0o700  # what git keeps of permissions; the umask of each checkout is its own
# Makes every clock of Python, cookiecutter's included, show another year.
ANOTHER_YEAR = """
import datetime, time

class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2099, 7, 1, tzinfo=tz)

datetime.datetime = Later
time.time = lambda: 4086547200.0
"""


def contents(project: Project, bits: int = 0o777) -> dict[str, tuple[bytes, int]]:
    """Return each file's bytes and permissions."""
    files = {name: project.path / name for name in project.files()}
    return {name: (path.read_bytes(), path.stat().st_mode & bits) for name, path in files.items()}


def test_the_same_bytes_whatever_the_time_user_locale_and_umask(tmp_path: Path, bake: Bake) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ANOTHER_YEAR)
    home = tmp_path / "home"
    home.mkdir()
    another = environment(
        PYTHONPATH=str(tmp_path / "site"),
        PYTHONHASHSEED="7",
        HOME=str(home),
        USER="somebody",
        LOGNAME="somebody",
        TZ="Pacific/Kiritimati",
        LC_ALL="C",
    )
    year = "import arrow; print(arrow.now().year)"
    command = [sys.executable, "-c", year]
    assert subprocess.check_output(command, env=another, text=True) == "2099\n"
    subprocess.run(
        [sys.executable, "-m", "cookiecutter", TEMPLATE, "--no-input", "-o", "elsewhere"],
        cwd=tmp_path,
        env=another,
        umask=0o077,
        check=True,
        capture_output=True,
    )
    elsewhere = Project(tmp_path / "elsewhere" / "task_service")
    assert contents(elsewhere) == contents(bake())


def test_line_ends_are_the_same_whatever_the_templates_are(tmp_path: Path, bake: Bake) -> None:
    template = snapshot(tmp_path / "template")
    for path in template.rglob("*"):
        if path.suffix not in (".png", ".svg") and path.is_file() and ".git" not in path.parts:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    subprocess.run(
        [sys.executable, "-m", "cookiecutter", template, "--no-input", "--default-config"],
        cwd=tmp_path,
        env=environment(HOME=str(tmp_path)),
        check=True,
        capture_output=True,
    )
    assert contents(Project(tmp_path / SLUG), OWNERS) == contents(bake(), OWNERS)


@pytest.mark.parametrize("licence", ["MIT", "BSD-3-Clause"])
def test_a_licence_names_its_owner_and_no_year(licence: str, bake: Bake) -> None:
    text = bake(open_source_license=licence, full_name="Ada Lovelace").read("LICENSE")
    assert "Copyright (c) Ada Lovelace\n" in text
    assert not re.search(r"\b(19|20)\d\d\b", text)


@pytest.mark.parametrize("slug", ["a" * 40, "data", "dist"])
def test_file_names_suit_windows_and_macos(slug: str) -> None:
    for choices in ALL:
        files = render(typed(choices | {"project_slug": slug}))
        names = set(files) | {str(folder) for name in files for folder in Path(name).parents}
        assert len({name.lower() for name in names}) == len(names), "differ by case only"
        for name in names:
            assert len(name) <= 120
            assert re.fullmatch(r"[\w./-]+", name, re.ASCII), name
            assert DEVICES.isdisjoint(part.split(".")[0].lower() for part in name.split("/"))
            assert not any(part.endswith(".") for part in name.split("/") if part != "."), name


def test_the_template_can_be_checked_out_on_windows() -> None:
    for path in ROOT.rglob("*"):
        name = path.relative_to(TEMPLATE).as_posix()
        assert not path.is_symlink(), name
        assert not set(name) & set('<>:"|?*\\'), name
        assert len(name) <= 160, name  # of 260, of which the folder of cookiecutter takes 70
        assert not name.endswith((" ", ".")), name


@pytest.mark.parametrize("slug", ["data", "dist"])
def test_a_project_does_not_ignore_its_own_files(slug: str, bake: Bake) -> None:
    project = bake(project_slug=slug)
    project.run("git", "init", "--quiet")
    assert "!!" not in project.run("git", "status", "--porcelain", "--ignored")
    private = [".env", "data/emails.log"]
    assert project.run("git", "check-ignore", *private).split() == private


def test_a_checkout_on_windows_has_the_same_bytes(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    begin(project.path)
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", str(project.path), "there")
    assert contents(Project(tmp_path / "there"), OWNERS) == contents(project, OWNERS)


@pytest.mark.parametrize("variant_", VARIANTS, ids=lambda variant: variant.id)
def test_every_make_target_is_listed_and_a_command_of_the_readme(
    variant_: Variant, tmp_path: Path
) -> None:
    files = render(typed(Answers(variant_.answers)))
    targets = re.split(r"^(\w+):.*\n", files["Makefile"], flags=re.MULTILINE)
    recipes = dict(zip(targets[1::2], targets[2::2], strict=True))
    assert "uv run pytest" in recipes["test"]
    (tmp_path / "Makefile").write_text(files["Makefile"])
    listed = subprocess.check_output("make", cwd=tmp_path, text=True)
    assert [line.split()[0] for line in listed.splitlines()] == list(recipes)
    assert not re.search("^curl.*'", files["README.md"], re.M)  # to Windows' cmd part of the URL
    for target in recipes.keys() - {"help"}:
        for command in re.findall(r"^\t@?(.+)", recipes[target], re.MULTILINE):
            assert f"\n{command}\n" in files["README.md"], f"make {target}"

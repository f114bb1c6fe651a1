"""`make release` checks before it tags, and what keeps the template in shape is in shape."""

import os
import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from harness.project import TEMPLATE, Project
from harness.release import number, sections
from harness.repository import commit, git, snapshot

from .conftest import Bake, need
from .test_matrix import PYTHONS

# Stands in for the tools: `make release` runs this very suite, which can't run itself.
TOOL = """\
#!/bin/sh
echo "$(basename "$0") $* with CI=$CI and tags: $(git tag --list 9.9.9)" >> ../ran
git commit --quiet --allow-empty --message "Made while it checks"
test "$(basename "$0")" != "$BROKEN"
"""


def write_version(template: Path, version: str) -> None:
    metadata = template / "pyproject.toml"
    text = metadata.read_text("utf-8")
    metadata.write_text(re.sub('(?m)^version = ".*"$', f'version = "{version}"', text), "utf-8")


def write_changelog(template: Path, day: str, unreleased: str = "") -> None:
    (template / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n{unreleased}\n## [9.9.9] - {day}\n\n### Added\n\n- All.\n"
    )


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a clone that is ready to be released as 9.9.9, with tools that stand in."""
    template = snapshot(tmp_path / "template")
    write_version(template, "9.9.9")
    write_changelog(template, date.today().isoformat())  # noqa: DTZ011, as the maintainer's
    commit(template, "Ready")
    (template / ".venv").mkdir()
    (template / ".venv" / "ready").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("mypy", "pytest", "ruff"):
        (tools / name).write_text(TOOL)
        (tools / name).chmod(0o755)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    return template


def release(template: Path, broken: str = "") -> tuple[int, str]:
    """Run `make release`; returns its exit code and what it says."""
    result = subprocess.run(
        ["make", "release", f"RUN={shlex.quote(str(template.parent))}/tools/"],
        cwd=template,
        env=os.environ | {"BROKEN": broken, "CI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def test_a_release_is_tagged_when_all_is_checked(template: Path) -> None:
    checked = git(template, "rev-parse", "HEAD")
    code, said = release(template)
    assert code == 0, said
    assert git(template, "rev-parse", "9.9.9^{commit}") == checked
    assert "### Added\n\n- All." in git(template, "tag", "--list", "--format=%(contents)", "9.9.9")
    ran = (template.parent / "ran").read_text().splitlines()
    assert [line for line in ran if not line.endswith(" with CI=true and tags: ")] == []
    for tool in ("ruff check", "ruff format --check", "mypy", "pytest", "pytest -m matrix or"):
        assert [line for line in ran if line.startswith(tool)], tool


def test_a_push_as_it_says_publishes_all_or_nothing(template: Path) -> None:
    remote = template.parent / "remote"
    git(template, "clone", "--quiet", "--bare", str(template), str(remote))
    git(template, "remote", "add", "origin", str(remote))
    _, said = release(template)
    push = said.rpartition("To publish it: ")[2].split()
    assert subprocess.run(push, cwd=template, check=False).returncode == 0
    assert git(remote, "rev-parse", "main") == git(template, "rev-parse", "main")
    git(remote, "tag", "--delete", "9.9.9")
    git(template, "push", "--quiet", "--force", "origin", f"{commit(template, 'Theirs')}:main")
    git(template, "reset", "--quiet", "--hard", "HEAD^")
    assert subprocess.run(push, cwd=template, check=False).returncode != 0
    assert not git(remote, "tag", "--list", "9.9.9")


def test_make_and_git_may_run_the_tests_whatever_a_developer_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    Project(TEMPLATE).run(
        *(sys.executable, "-m", "pytest", "-n0", "tests/test_release.py", "tests/test_hooks.py"),
        *("-k", "or_nothing or without_a_letter"),
        **{"MAKEFLAGS": "w", "MAKELEVEL": "1", "COOKIECUTTER_CONFIG": "none"},
        **{"GIT_DIR": str(tmp_path / ".git"), "GIT_INDEX_FILE": str(tmp_path / "index")},
    )
    assert not git(tmp_path, "log", "--all")


def test_what_a_release_needs_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="not installed: no-such-program"):
        need("no-such-program")


@pytest.mark.parametrize("tool", ["ruff", "mypy", "pytest", "gpg"])
def test_a_failing_check_keeps_it_from_being_tagged(tool: str, template: Path) -> None:
    if tool == "gpg":  # which signs the tags of who wants it
        git(template, "config", "tag.gpgSign", "true")
        git(template, "config", "gpg.program", "false")
    code, said = release(template, broken=tool)
    assert code != 0
    assert "nothing was tagged" in said
    assert "Traceback" not in said
    assert "9.9.9" not in git(template, "tag", "--list")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("another branch", "the branch is not main"),
        ("unclean", "not clean"),
        ("not a version", "not like 1.2.3"),
        ("tagged", "not above the last tag, 9.9.9"),
        ("older", "not above the last tag, 10.0.0"),
        ("unreleased notes", "move what is under [Unreleased]"),
        ("no notes", "nothing is said of [9.9.8]"),
        ("another day", "CHANGELOG.md: write [9.9.9] - "),
    ],
)
def test_a_fault_is_named_and_nothing_is_tagged(fault: str, message: str, template: Path) -> None:
    today = date.today().isoformat()  # noqa: DTZ011
    match fault:
        case "another branch":
            git(template, "switch", "--quiet", "--create", "another")
        case "unclean":
            (template / "new").touch()
        case "not a version":
            write_version(template, "9.9.9rc1")
        case "tagged":
            git(template, "tag", "9.9.9")
        case "older":
            git(template, "tag", "10.0.0")
            git(template, "tag", "8.0.0")
        case "unreleased notes":
            write_changelog(template, today, unreleased="\n- More.\n")
        case "no notes":
            write_version(template, "9.9.8")
        case "another day":
            write_changelog(template, "2001-01-01")
    if fault != "unclean":
        commit(template, "Not ready")
    os.utime(template / ".venv" / "ready")
    tags = git(template, "tag", "--list")
    code, said = release(template)
    assert code != 0
    assert message in said, said
    assert "Traceback" not in said
    assert git(template, "tag", "--list") == tags
    assert not (template.parent / "ran").exists()


def test_the_changelog_is_in_order() -> None:
    first, *versions = sections().items()
    assert first[0] == "Unreleased"
    assert versions == sorted(versions, key=lambda item: number(item[0]), reverse=True)
    for _, (day, notes) in versions:
        assert date.fromisoformat(day)
        assert notes


def actions(text: str) -> dict[str, str]:
    """Return the commit and version of every action that a workflow uses; all must be pinned."""
    lines = re.findall(r"uses: *(.+)", text)
    found = [re.fullmatch(r"([\w./-]+)@([0-9a-f]{40} # v[\d.]+)", line) for line in lines]
    assert all(found), lines
    return {match[1]: match[2] for match in found if match}


def test_actions_are_pinned_by_commit_to_the_same_ones_as_in_what_is_rendered(bake: Bake) -> None:
    ours = actions((TEMPLATE / ".github/workflows/ci.yml").read_text("utf-8"))
    theirs = actions(bake(ci="GitHub Actions").read(".github/workflows/ci.yml"))
    assert ours.keys() & theirs.keys()
    for name in ours.keys() & theirs.keys():
        assert theirs[name] == ours[name]


def test_the_workflow_runs_each_week_with_least_rights_what_is_there() -> None:
    workflow = yaml.safe_load((TEMPLATE / ".github/workflows/ci.yml").read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    (schedule,) = workflow[True]["schedule"]  # YAML 1.1 reads `on` as a boolean
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    commands = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    assert f"sudo .venv/bin/uv python install {' '.join(PYTHONS)}" in commands
    assert "sudo --preserve-env=CI .ci/run" in commands
    assert "sudo --preserve-env=CI make test-matrix losses faults" in commands  # README's promises
    assert (TEMPLATE / ".ci/run").read_text("utf-8").endswith("\nmake lint test\n")
    for step in workflow["jobs"]["test"]["steps"]:
        assert step.get("with", {}).get("persist-credentials", False) is False
        if made := re.search(r"\bmake (.+)", step.get("run", "")):
            for target in made[1].split():
                assert f"\n{target}:" in (TEMPLATE / "Makefile").read_text("utf-8")
    # A push must not end the weekly run.
    assert "github.event_name" in workflow["concurrency"]["group"]


def test_what_contributing_names_is_there() -> None:
    text = (TEMPLATE / "CONTRIBUTING.md").read_text("utf-8")
    makefile = (TEMPLATE / "Makefile").read_text("utf-8")
    listed = subprocess.check_output("make", cwd=TEMPLATE, text=True)
    targets = [line.split()[0] for line in listed.splitlines()]
    assert f".PHONY: {' '.join(targets)}\n" in makefile
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= set(targets)
    for path in re.findall(r"`((?:\w+/)*\w+\.(?:md|py|toml|json))`", text):
        assert (TEMPLATE / path).exists() or path == "main.py", path
    assert "need root" in text  # as those of tests/test_container.py do, in a release too

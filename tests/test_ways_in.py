"""Every way in gives the same project, or leaves nothing behind and says why."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.project import SLUG, TEMPLATE, Project, environment
from harness.repository import commit, git, snapshot

from .conftest import Bake
from .rendering import render, typed
from .variants import OPTIONS

COOKIECUTTER = [sys.executable, "-m", "cookiecutter"]
CRUFT = [str(Path(sys.executable).with_name("cruft"))]
HOSTILE = {
    "project_name": 'O\'Neil "&" \\ 🚀',
    "project_short_description": "1. [x](y): *all* # of it",
    "full_name": "Doe, Jane",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder of our own, for cookiecutter's configuration, clones and replays."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Return the empty folder in which the commands run."""
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    return workplace


@pytest.fixture
def existing(bake: Bake, workplace: Path) -> Project:
    """Return a project that is there already."""
    return Project(shutil.copytree(bake().path, workplace / SLUG))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a git repository of the template, whose tag ``1.0`` is the present one."""
    path = snapshot(tmp_path_factory.mktemp("repository") / "template")
    git(path, "tag", "1.0")
    readme = path / "{{cookiecutter.project_slug}}" / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nA later version.\n", "utf-8")
    git(path, "tag", "2.0", commit(path, "A later version"))
    return path


def run(
    command: list[str], workplace: Path, home: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with a home of its own; its stdout has its stderr too."""
    return subprocess.run(
        command,
        cwd=workplace,
        env=environment(HOME=str(home), **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def contents(project: Project) -> dict[str, bytes]:
    """Return what each file holds; cruft's own file apart."""
    return {name: (project.path / name).read_bytes() for name in project.files() - {".cruft.json"}}


def assert_renders(path: Path, **answers: object) -> None:
    """Check that the project at the path is, to the byte, the one of these answers."""
    expected = {name: text.encode() for name, text in render(typed(answers)).items()}
    assert contents(Project(path)) == expected


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has its background commands ignore it


class Terminal:
    """A command that runs on a pseudo-terminal, so that Ctrl-C reaches it as it does a person's."""

    def __init__(self, command: list[str], workplace: Path, home: Path) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            command,
            cwd=workplace,
            env=environment(HOME=str(home), TERM="dumb", COLUMNS="200"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)

    def answer(self, prompt: str, text: str) -> None:
        """Wait for the prompt, then type the text; raises TimeoutError after a minute."""
        self._read_until(prompt)
        os.write(self.master, text.encode())

    def interrupt(self, prompt: str) -> None:
        """Press Ctrl-C at the prompt, again each 10 s until it is noticed.

        Python's readline misses a signal that comes just before it waits, and a second one
        would end the program while it still says farewell to the first.
        """
        self._read_until(prompt)
        for _ in range(6):
            os.write(self.master, b"\x03")
            if self._reads("Aborted", seconds=10):
                return

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        self._read_until(None)
        os.close(self.master)
        return self.process.wait(60)

    def _read_until(self, prompt: str | None) -> None:
        if not self._reads(prompt, seconds=60):
            self.process.kill()
            raise TimeoutError(f"no {prompt!r} in {self.shown}")

    def _reads(self, prompt: str | None, seconds: float) -> bool:
        start, deadline = len(self.shown), time.monotonic() + seconds
        with suppress(OSError):  # EIO: the other end is closed
            while prompt is None or prompt not in self.shown[start:]:
                if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                    return False
                self.shown += os.read(self.master, 65536).decode(errors="replace")
        return True


@pytest.fixture
def terminal(workplace: Path, home: Path) -> Iterator[Terminal]:
    """Return cookiecutter at its first prompt."""
    terminal = Terminal([*COOKIECUTTER, str(TEMPLATE)], workplace, home)
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()


def test_prompts_answered_by_return_give_the_defaults(terminal: Terminal, workplace: Path) -> None:
    for number in range(1, len(OPTIONS) + 1):
        terminal.answer(f"[{number}/{len(OPTIONS)}]", "\n")
    assert terminal.end() == 0, terminal.shown
    assert_renders(workplace / SLUG)


def test_prompts_ask_again_and_take_text_as_it_is_typed(
    terminal: Terminal, workplace: Path
) -> None:
    terminal.answer("[1/", HOSTILE["project_name"] + "\n")
    terminal.answer("(o_neil)", "\n")
    terminal.answer("[3/", HOSTILE["project_short_description"] + "\n")
    terminal.answer("[4/", HOSTILE["full_name"] + "\n")
    terminal.answer("[5/", "\n")
    terminal.answer("Choose from", "Celery\n")
    terminal.answer("select one of the available options", "2\n")
    terminal.answer("[7/", "perhaps\n")
    terminal.answer("Please enter Y or N", "n\n")
    for number in (8, 9, 10):
        terminal.answer(f"[{number}/", "\n")
    assert terminal.end() == 0, terminal.shown
    assert_renders(
        workplace / "o_neil",
        **HOSTILE,
        project_slug="o_neil",
        task_backend="Celery",
        include_email_task=False,
    )


def test_a_refusal_after_the_prompts_leaves_nothing(terminal: Terminal, workplace: Path) -> None:
    for number in range(1, len(OPTIONS) + 1):
        terminal.answer(f"[{number}/{len(OPTIONS)}]", "my-app\n" if number == 2 else "\n")
    assert terminal.end() == 1
    assert "error: project_slug: 'my-app' must be" in terminal.shown
    assert "try my_app" in terminal.shown
    assert not list(workplace.iterdir())


@pytest.mark.parametrize("last", [1, len(OPTIONS)])
def test_ctrl_c_at_a_prompt_leaves_nothing(terminal: Terminal, workplace: Path, last: int) -> None:
    for number in range(1, last):
        terminal.answer(f"[{number}/", "\n")
    terminal.interrupt(f"[{last}/")
    assert terminal.end() == 1
    assert "Aborted" in terminal.shown
    assert not list(workplace.iterdir())


def test_a_replay_gives_the_same_project(workplace: Path, home: Path) -> None:
    answers = [f"{name}={value}" for name, value in HOSTILE.items()]
    first = run([*COOKIECUTTER, str(TEMPLATE), "--no-input", *answers], workplace, home)
    assert first.returncode == 0, first.stdout
    replay = run([*COOKIECUTTER, str(TEMPLATE), "--replay", "-o", "again"], workplace, home)
    assert replay.returncode == 0, replay.stdout
    assert_renders(workplace / "again" / "o_neil", **HOSTILE, project_slug="o_neil")


def test_the_users_own_configuration_answers(workplace: Path, home: Path) -> None:
    (home / ".cookiecutterrc").write_text(
        "default_context:\n"
        '  full_name: "Doe, Jane"\n'
        "  email: jane@example.com\n"
        "  task_backend: Celery\n"
        "  include_log_task: no\n"
        '  include_email_task: "no"\n'
        "  github_username: jane\n"
    )
    result = run([*COOKIECUTTER, str(TEMPLATE), "--no-input"], workplace, home)
    assert result.returncode == 0, result.stdout
    assert_renders(
        workplace / SLUG,
        full_name="Doe, Jane",
        email="jane@example.com",
        task_backend="Celery",
        include_log_task=False,
        include_email_task=False,
    )


def test_a_choice_of_another_template_in_it_is_warned_of_and_ends_what_is_taken_of_it(
    workplace: Path, home: Path
) -> None:
    (home / ".cookiecutterrc").write_text(
        "default_context:\n"
        "  full_name: Jane Doe\n"
        "  open_source_license: GPL-3.0\n"
        "  email: jane@example.com\n"
    )
    result = run([*COOKIECUTTER, str(TEMPLATE), "--no-input"], workplace, home)
    assert result.returncode == 0, result.stdout
    assert "GPL-3.0 provided for choice variable open_source_license" in result.stdout
    assert_renders(workplace / SLUG, full_name="Jane Doe")


def test_a_zip_gives_the_same_project(repository: Path, workplace: Path, home: Path) -> None:
    archive = workplace / "template.zip"
    git(repository, "archive", "--prefix=template/", "--output", str(archive), "1.0")
    result = run([*COOKIECUTTER, str(archive), "--no-input"], workplace, home)
    assert result.returncode == 0, result.stdout
    assert_renders(workplace / SLUG)


def test_a_git_url_at_a_tag_gives_that_version(
    repository: Path, workplace: Path, home: Path
) -> None:
    url = f"git+{repository.as_uri()}"
    for tag in ("1.0", "2.0"):
        result = run(
            [*COOKIECUTTER, url, "--checkout", tag, "--no-input", "-o", tag], workplace, home
        )
        assert result.returncode == 0, result.stdout
    assert_renders(workplace / "1.0" / SLUG)
    assert "A later version." in Project(workplace / "2.0" / SLUG).read("README.md")


def test_cruft_creates_the_same_project_also_from_a_detached_checkout(
    repository: Path, workplace: Path, home: Path
) -> None:
    detached = workplace / "detached"
    git(workplace, "clone", "--quiet", str(repository), str(detached))
    git(detached, "checkout", "--quiet", "--detach", "1.0")
    for command in (COOKIECUTTER, [*CRUFT, "create"]):
        folder = workplace / str(len(command))
        arguments = [str(detached), "--no-input", "--output-dir", str(folder)]
        folder.mkdir()
        result = run([*command, *arguments], workplace, home)
        assert result.returncode == 0, result.stdout
        assert_renders(folder / SLUG)
    assert json.loads((folder / SLUG / ".cruft.json").read_text())["template"] == str(detached)


def declared_lowest() -> str:
    """Return the lowest version of cookiecutter that pyproject.toml allows."""
    found = re.search(r'"cookiecutter>=([\d.]+)"', (TEMPLATE / "pyproject.toml").read_text())
    assert found
    return f"{found[1]}.0" if found[1].count(".") == 1 else found[1]


@pytest.mark.parametrize("version", [f"=={declared_lowest()}", ""], ids=["lowest", "newest"])
def test_cookiecutters_versions_give_the_same_project(version: str, workplace: Path) -> None:
    result = versioned(version, workplace, {"task_backend": "Celery", "include_log_task": "n"})
    assert result.returncode == 0, result.stdout
    assert_renders(workplace / SLUG, task_backend="Celery", include_log_task=False)


def test_a_cookiecutter_that_takes_no_for_yes_is_refused(workplace: Path) -> None:
    result = versioned("==2.6.0", workplace, {"include_log_task": "n"})
    assert result.returncode == 1
    assert "include_log_task: 'n' must be yes or no, and needs cookiecutter 2.7" in result.stdout
    assert not (workplace / SLUG).exists()


def versioned(
    version: str, workplace: Path, answers: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run that version of cookiecutter; home stays, as uv may be configured there."""
    config = workplace / "config.yaml"
    config.write_text(f"replay_dir: {workplace / 'replay'}\n")
    command = [
        *("uv", "tool", "run", "--from", f"cookiecutter{version}", "cookiecutter"),
        *(str(TEMPLATE), "--no-input", "--config-file", str(config)),
        *(f"{name}={value}" for name, value in answers.items()),
    ]
    return run(command, workplace, Path.home())


def test_an_existing_folder_is_refused_and_left_alone(
    existing: Project, workplace: Path, home: Path
) -> None:
    (existing.path / "README.md").write_text("Mine.\n")
    before = contents(existing)
    for option in ([], ["--skip-if-file-exists"]):  # which is of use with -f only
        result = run([*COOKIECUTTER, str(TEMPLATE), "--no-input", *option], workplace, home)
        assert result.returncode == 1
        assert "already exists" in result.stdout
        assert contents(existing) == before


@pytest.mark.parametrize("skip", [True, False], ids=["-f -s", "-f"])
def test_an_existing_folder_is_overwritten_as_asked(
    skip: bool, existing: Project, workplace: Path, home: Path
) -> None:
    (existing.path / "README.md").write_text("Mine.\n")
    (existing.path / "Makefile").unlink()
    (existing.path / ".github" / "mine.yml").write_text("mine: 1\n")
    options = ["-f", *(["-s"] if skip else []), "ci=GitLab CI"]
    result = run([*COOKIECUTTER, str(TEMPLATE), "--no-input", *options], workplace, home)
    assert result.returncode == 0, result.stdout
    assert existing.read("README.md") == ("Mine.\n" if skip else render(typed({}))["README.md"])
    assert existing.read("Makefile") == render(typed({}))["Makefile"]
    assert existing.read(".github/mine.yml") == "mine: 1\n"
    assert ".gitlab-ci.yml" in existing.files()


def test_a_refusal_leaves_an_existing_project_alone(
    existing: Project, workplace: Path, home: Path
) -> None:
    before = contents(existing)
    result = run([*COOKIECUTTER, str(TEMPLATE), "--no-input", "-f", "full_name= "], workplace, home)
    assert result.returncode == 1
    assert "error: full_name: ' ' must hold a letter" in result.stdout
    assert contents(existing) == before


def test_a_read_only_target_fails_and_stays_as_it_was(workplace: Path, home: Path) -> None:
    workplace.chmod(0o555)
    # Root may write anywhere, unless it gives up the right.
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if not os.geteuid() else []
    command = [*unprivileged, *COOKIECUTTER, str(TEMPLATE), "--no-input"]
    result = run(command, workplace, home)
    workplace.chmod(0o755)
    assert result.returncode == 1
    assert f"Unable to create directory at {SLUG}" in result.stdout
    assert not list(workplace.iterdir())


def test_no_git_is_needed_but_for_a_git_url(repository: Path, workplace: Path, home: Path) -> None:
    nowhere = {"HOME": str(home), "PATH": str(home)}
    results = [
        subprocess.run(
            [*COOKIECUTTER, template, "--no-input"],
            cwd=workplace,
            env=nowhere,
            capture_output=True,
            text=True,
            check=False,
        )
        for template in (str(TEMPLATE), f"git+{repository.as_uri()}")
    ]
    assert results[0].returncode == 0, results[0].stderr
    assert_renders(workplace / SLUG)
    assert results[1].returncode == 1
    assert "'git' is not installed" in results[1].stderr


@pytest.mark.parametrize("name", ["O'Neil 🚀", "Grüße"])
def test_the_locale_c_changes_nothing(name: str, workplace: Path, home: Path) -> None:
    result = run(
        [*COOKIECUTTER, str(TEMPLATE), "--no-input", f"project_name={name}", "project_slug=a"],
        workplace,
        home,
        LC_ALL="C",
    )
    assert result.returncode == 0, result.stdout
    assert_renders(workplace / "a", project_name=name, project_slug="a")


def test_bytes_that_are_no_text_are_refused(workplace: Path, home: Path) -> None:
    command = [*COOKIECUTTER, str(TEMPLATE), "--no-input", os.fsdecode(b"full_name=Jane \xe9")]
    result = run(command, workplace, home)
    assert result.returncode == 1
    assert r"error: full_name: 'Jane \udce9' must not hold" in result.stdout
    assert not list(workplace.iterdir())

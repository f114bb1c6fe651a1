"""What each variant renders: the expected files, all well-formed, and no trace of the rest."""

import json
import re
import tomllib

import pytest
import yaml

from harness.project import SLUG, Project

from .conftest import Bake
from .rendering import CHOICES
from .variants import VARIANTS, Variant

PACKAGE = f"src/{SLUG}"
CI: dict[str, set[str]] = {
    "GitHub Actions": {".github/dependabot.yml", ".github/workflows/ci.yml"},
    "GitLab CI": {".gitlab-ci.yml", "renovate.json"},
    "None": set(),
}
CI_TRACES = {"GitHub Actions": r"github(?!\.io)|dependabot", "GitLab CI": "gitlab|renovate"}
ALWAYS = CI["GitHub Actions"] | {
    ".devcontainer/devcontainer.json",
    ".dockerignore",
    ".editorconfig",
    ".env.example",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "compose.override.yaml",
    "compose.yaml",
    "kubernetes.yaml",
    "monitoring/alerts.yml",
    "monitoring/dashboard.json",
    "pyproject.toml",
    f"{PACKAGE}/__init__.py",
    f"{PACKAGE}/logs.py",
    f"{PACKAGE}/main.py",
    f"{PACKAGE}/metrics.py",
    f"{PACKAGE}/settings.py",
    f"{PACKAGE}/api/__init__.py",
    f"{PACKAGE}/api/health.py",
    f"{PACKAGE}/api/page.py",
    f"{PACKAGE}/api/refusal.py",
    f"{PACKAGE}/api/security.py",
    f"{PACKAGE}/api/tasks.py",
    f"{PACKAGE}/page/page.css",
    f"{PACKAGE}/page/page.html",
    f"{PACKAGE}/page/page.js",
    f"{PACKAGE}/taskqueue/__init__.py",
    f"{PACKAGE}/taskqueue/backend.py",
    f"{PACKAGE}/taskqueue/queue.py",
    f"{PACKAGE}/taskqueue/task.py",
    f"{PACKAGE}/tasks/__init__.py",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/test_health.py",
    "tests/test_logs.py",
    "tests/test_metrics.py",
    "tests/test_page.py",
    "tests/test_settings.py",
    "tests/test_task.py",
    "tests/waiting.py",
}
CELERY = {
    "tests/test_backend.py",
    "tests/test_worker.py",
    f"{PACKAGE}/taskqueue/celery.py",
    f"{PACKAGE}/taskqueue/local.py",
    f"{PACKAGE}/taskqueue/rabbitmq.py",
    f"{PACKAGE}/taskqueue/redis.py",
    f"{PACKAGE}/worker.py",
}
PROCESS = {
    f"{PACKAGE}/taskqueue/journal.py",
    f"{PACKAGE}/taskqueue/schema.sql",
    f"{PACKAGE}/taskqueue/slots.py",
    "tests/test_backend.py",
}
EMAIL = {f"{PACKAGE}/api/emails.py", f"{PACKAGE}/tasks/email.py", "tests/test_emails.py"}
LOG = {f"{PACKAGE}/api/items.py", f"{PACKAGE}/tasks/log.py", "tests/test_items.py"}
ANY_TASK = {f"{PACKAGE}/api/accepted.py", f"{PACKAGE}/tasks/files.py"}

# Words that only belong to what was chosen. "emails" and "mail" also cover the authors' address.
TRACES = {
    "celery": r"celery|(?<!--)worker|broker|redis|rabbitmq|amqp|kombu|pywin32",
    "process": r"task_backlog|journal|filelock|sqlite",
    "email": r"smtp|send.email|emails|EMAIL_FROM|email.validator|mail server|\bmails?\b",
    "log": r"log\.txt|write_log|/items|items\b|create_item",
}


def test_has_exactly_the_expected_files(variant: Variant, bake: Bake) -> None:
    project = bake(**variant.answers)  # a fresh one: nothing ran in it yet
    # A backend more is not found here: many tests ask whether it is Celery, else take the other.
    expected = ALWAYS | {"BackgroundTasks": PROCESS, "Celery": CELERY}[variant.backend]
    expected |= (EMAIL if variant.email else set()) | (LOG if variant.log else set())
    expected |= ANY_TASK if variant.email or variant.log else set()
    assert project.files() == expected
    folders = [path for path in project.path.rglob("*") if path.is_dir()]
    assert not [folder for folder in folders if not any(folder.iterdir())]


def test_has_no_jinja_and_no_stray_whitespace(project: Project) -> None:
    for name in project.files():
        text = project.read(name)
        assert "cookiecutter" not in text.replace("`cookiecutter-fastapi-tasks`", ""), name
        # A workflow's own ${{ }} is no Jinja.
        assert not re.search(r"(?<!\$)\{\{|\{[%#]|[%#]\}", text), name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), name
        assert "\r" not in text, name
        assert "\n\n\n\n" not in text, name
        if text:
            assert text.endswith("\n"), name
            assert not text.startswith("\n"), name
            assert not text.endswith("\n\n"), name


def test_its_data_files_parse(project: Project) -> None:
    for name in project.files():
        match name.rpartition(".")[2]:
            case "toml":
                tomllib.loads(project.read(name))
            case "yml" | "yaml":
                assert list(yaml.safe_load_all(project.read(name)))
            case "json":
                json.loads(project.read(name))


def test_has_no_trace_of_what_was_not_chosen(project: Project, variant: Variant) -> None:
    chosen = {
        "celery": variant.celery,
        "process": not variant.celery,
        "email": variant.email,
        "log": variant.log,
    }
    for part, pattern in TRACES.items():
        if not chosen[part]:
            assert_nowhere(pattern, project)


def assert_nowhere(pattern: str, project: Project) -> None:
    for name in project.files():
        text = "" if name == "LICENSE" else project.read(name)
        found = re.search(pattern, f"{name}\n{text}", re.IGNORECASE)
        assert not found, f"{name}: {found and found.group()!r}"


def test_has_no_setting_that_nothing_reads(project: Project) -> None:
    """Its own tests compare these names with those in settings.py."""
    names = re.findall(r"^([A-Z_]+)=", project.read(".env.example"), re.MULTILINE)
    modules = {name for name in project.files() if re.match(rf"{PACKAGE}/.+\.py", name)}
    code = "".join(project.read(name) for name in modules - {f"{PACKAGE}/settings.py"})
    assert len(names) > 5
    assert [name for name in names if f".{name.lower()}" not in code] == []


@pytest.mark.parametrize("number", range(len(VARIANTS) // 2))
def test_endpoints_and_tasks_are_the_same_on_both_backends(number: int, bake: Bake) -> None:
    answers = VARIANTS[number].answers
    one = bake(**answers | {"task_backend": "BackgroundTasks"})
    other = bake(**answers | {"task_backend": "Celery"})

    def shared(project: Project) -> set[str]:
        return {name for name in project.files() if "/api/" in name or "/tasks/" in name}

    assert len(shared(one)) >= 5
    assert shared(one) == shared(other)
    for name in shared(one):
        assert one.read(name) == other.read(name), name


@pytest.mark.parametrize("ci", CHOICES["ci"])
def test_has_the_ci_that_was_chosen(ci: str, bake: Bake) -> None:
    project = bake(ci=ci)
    assert project.files() & set().union(*CI.values()) == CI[ci]
    assert ("CI" in project.read("README.md")) == (ci != "None")
    for other in CI_TRACES.keys() - {ci}:
        assert_nowhere(CI_TRACES[other], project)
    assert (project.path / ".github").exists() == (ci == "GitHub Actions")


@pytest.mark.parametrize("name", CHOICES["open_source_license"])
def test_has_the_licence_that_was_chosen(name: str, bake: Bake) -> None:
    project = bake(open_source_license=name)
    metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
    if name == "None":
        assert "LICENSE" not in project.files()
        assert "license" not in metadata
        assert_nowhere("licen[cs]e", project)
    else:
        assert metadata["license"] == name
        assert name.split("-")[0] in project.read("LICENSE")

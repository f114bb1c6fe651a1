"""A project follows the template: other answers, later versions, and its owner's edits stay."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cruft
import pytest

from harness.project import SLUG, TEMPLATE, Project, environment
from harness.repository import begin, commit, git, snapshot

from .rendering import CHOICES, render, typed
from .test_ways_in import HOSTILE
from .variants import OPTIONS, VARIANTS

Answers = dict[str, object]
Fresh = Callable[[Answers, Path], Project]

# What an owner adds, by the rendered README: a task, its endpoint, its test.
ADDED = {
    f"src/{SLUG}/tasks/export.py": """\
from ..settings import get_settings
from ..taskqueue import task


@task(retry_on=(OSError,))
def export(report: str) -> None:
    (get_settings().data_dir / "export.txt").write_text(report)
""",
    f"src/{SLUG}/api/reports.py": """\
from fastapi import APIRouter

from ..taskqueue import TaskQueue, TaskRoute
from ..tasks.export import export

router = APIRouter(route_class=TaskRoute)


@router.post("/reports/", status_code=202)
async def create_report(report: str, background_tasks: TaskQueue) -> dict[str, str]:
    return {"task_id": background_tasks.add_task(export, report)}
""",
    "tests/test_reports.py": """\
import time
from pathlib import Path

from starlette.testclient import TestClient


def test_a_report_is_exported(client: TestClient, data_dir: Path) -> None:
    task_id = client.post("/reports/", params={"report": "sales"}).json()["task_id"]
    deadline = time.monotonic() + 30
    while client.get(f"/tasks/{task_id}").json().get("status") != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (data_dir / "export.txt").read_text() == "sales"
""",
}
APPENDED = {
    ".env.example": "\n# Which reports.\nREPORTS=daily\n",
    "monitoring/alerts.yml": "      - alert: Mine\n        expr: up == 0\n",
}
# What an owner changes: endpoints, what joins the new one to the service, the settings, a dashboard
# and, as `uv add` does, the dependencies.
CHANGED = [
    ("monitoring/dashboard.json", "    }\n  ]\n", '    },\n    { "title": "Mine" }\n  ]\n'),
    (
        f"src/{SLUG}/settings.py",
        "\n\n    @model_validator",
        '\n    reports: str = "daily"\n\n    @model_validator',
    ),
    (f"src/{SLUG}/api/health.py", 'tags=["health"]', 'tags=["operations"]'),
    (f"src/{SLUG}/api/items.py", "max_length=200", "max_length=100"),
    (f"src/{SLUG}/api/emails.py", 'tags=["emails"]', 'tags=["welcome"]'),
    (
        f"src/{SLUG}/main.py",
        " as page\n",
        " as page\nfrom .api.reports import router as reports\n",
    ),
    (
        f"src/{SLUG}/main.py",
        "(health)\n",
        "(health)\n    app.include_router(reports, **protected)\n",
    ),
    (
        "pyproject.toml",
        "]\n\n[project.optional-dependencies]",
        '    "tenacity>=9",\n]\n\n[project.optional-dependencies]',
    ),
    ("pyproject.toml", "]\n\n[build-system]", '    "hypothesis>=6",\n]\n\n[build-system]'),
]


def changes() -> Iterator[tuple[Answers, str, object]]:
    """Yield every variant with every option and another value of it; each pair of values once."""
    texts = {
        "project_name": "Another Service",
        "project_short_description": "Does it too.",
        "full_name": "Somebody Else",
        "email": "else@example.com",
    }
    assert texts.keys() | {"project_slug"} == {k for k, v in OPTIONS.items() if isinstance(v, str)}
    bases = itertools.cycle(variant.answers for variant in VARIANTS)
    for name, default in OPTIONS.items():
        match default:
            case _ if name in VARIANTS[0].answers:
                values = default if isinstance(default, list) else [True, False]
                for variant in VARIANTS:
                    answers = variant.answers
                    later = values[values.index(answers[name]) + 1 :]
                    yield from ((answers, name, value) for value in later)
            case list():
                for one, other in itertools.combinations(default, 2):
                    yield {**next(bases), name: one}, name, other
            case str() if name in texts:
                yield next(bases), name, texts[name]


@pytest.fixture(scope="module", autouse=True)
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep a developer's own configuration of cookiecutter out, and theirs untouched."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    config = folder / "config"
    config.write_text(f"cookiecutters_dir: {folder}/templates\nreplay_dir: {folder}/replays\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, configuration: None) -> Path:
    """Return a repository of the template as it stands; tests that change one make their own."""
    return snapshot(tmp_path_factory.mktemp("template") / "repository")


@pytest.fixture(scope="module")
def fresh(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Return a function that copies a project, made by `cruft create`, into a folder."""
    made: dict[str, Path] = {}

    def fresh(answers: Answers, folder: Path) -> Project:
        key = json.dumps(answers, sort_keys=True)
        if key not in made:
            made[key] = create(template, tmp_path_factory.mktemp("fresh"), answers).path
        return Project(shutil.copytree(made[key], folder))

    return fresh


def create(template: Path, folder: Path, answers: Answers, checkout: str | None = None) -> Project:
    """Make a project as `cruft create` does."""
    context = {"project_slug": SLUG} | answers
    return Project(cruft.create(str(template), folder, extra_context=context, checkout=checkout))


def edit(project: Project, shared: set[str]) -> None:
    """Do an owner's work in a project; in those files of it that are ``shared``."""
    for name, text in ADDED.items():
        (project.path / name).write_text(text, "utf-8")
    for name, old, new in CHANGED:
        if name in shared:
            project.replace(name, old, new)
    for name, text in APPENDED.items():
        with (project.path / name).open("a", encoding="utf-8") as file:
            file.write(text)


def rewrite(project: Project, old: str, new: str) -> None:
    """Change cruft's own file by hand, and commit it."""
    project.replace(".cruft.json", old, new)
    commit(project.path, "By hand")


def content(project: Project) -> dict[str, object]:
    """Return every file's content; cruft's own parsed: the order of its keys is no matter."""
    return texts(project) | {".cruft.json": json.loads(project.read(".cruft.json"))}


def texts(project: Project) -> dict[str, object]:
    """Return every file's text."""
    return {name: project.read(name) for name in project.files()}


@pytest.mark.parametrize(
    ("answers", "name", "value"),
    [
        pytest.param(*change, id=f"{number}-{change[1]}-{change[2]}")
        for number, change in enumerate(changes())
    ],
)
def test_other_answers_give_the_fresh_bake_with_the_owners_edits_and_back(
    answers: Answers, name: str, value: object, fresh: Fresh, tmp_path: Path
) -> None:
    one = fresh(answers, tmp_path / "one")
    other = fresh(answers | {name: value}, tmp_path / "other")
    changed = {name for name, _ in texts(one).items() ^ texts(other).items()}
    assert changed > {".cruft.json"}, "nothing but what was answered"
    shared = one.files() & other.files()
    project = fresh(answers, tmp_path / "project")
    begin(project.path)
    for each in (one, other, project):
        edit(each, shared)
    commit(project.path, "Mine")
    for answer, expected in ((value, other), (answers.get(name, OPTIONS[name]), one)):
        assert cruft.update(project.path, extra_context={name: answer})
        assert content(project) == content(expected)
        commit(project.path, "The template's")


@pytest.mark.parametrize("backend", ["BackgroundTasks", "Celery"])
def test_uv_add_appends(backend: str, fresh: Fresh, tmp_path: Path) -> None:
    by_hand, by_uv = (fresh({"task_backend": backend}, tmp_path / name) for name in ("one", "two"))
    edit(by_hand, by_hand.files())
    by_uv.run("uv", "add", "--quiet", "--frozen", "tenacity>=9")
    by_uv.run("uv", "add", "--quiet", "--frozen", "--dev", "hypothesis>=6")
    assert by_uv.read("pyproject.toml") == by_hand.read("pyproject.toml")


def test_a_change_that_meets_the_owners_is_marked_and_nothing_is_lost(
    fresh: Fresh, tmp_path: Path
) -> None:
    project = fresh({}, tmp_path / "project")
    begin(project.path)
    metadata = project.path / "pyproject.toml"
    metadata.write_text(
        re.sub("(?m)^description = .*$", 'description = "Mine"', metadata.read_text())
    )
    assert not cruft.update(project.path)  # a tree that is not clean
    commit(project.path, "Mine")
    cruft.update(project.path, extra_context={"project_short_description": "Theirs"})
    lines = metadata.read_text().splitlines()
    mine, theirs = lines.index('description = "Mine"'), lines.index('description = "Theirs"')
    assert lines[mine - 1].startswith("<<<<<<<")
    assert lines[theirs + 1].startswith(">>>>>>>")
    assert git(project.path, "diff", "--name-only", "--diff-filter=U") == "pyproject.toml"
    assert "Theirs" in project.read("README.md")
    assert not list(project.path.rglob("*.rej"))


def test_a_file_that_the_owner_removed_or_renamed_takes_no_changes(
    fresh: Fresh, tmp_path: Path
) -> None:
    project = fresh({}, tmp_path / "project")
    (project.path / "SECURITY.md").unlink()
    (project.path / "compose.yaml").rename(project.path / "docker-compose.yml")
    before = project.read("docker-compose.yml")
    begin(project.path)
    cruft.update(project.path, extra_context={"task_backend": "Celery", "email": "a@example.com"})
    assert not {"SECURITY.md", "compose.yaml"} & project.files()
    assert project.read("docker-compose.yml") == before
    assert "celery" in project.read("pyproject.toml")


def test_an_answer_changed_by_hand_is_taken_for_what_is_there(fresh: Fresh, tmp_path: Path) -> None:
    project = fresh({}, tmp_path / "project")
    begin(project.path)
    rewrite(project, '"BackgroundTasks"', '"Celery"')
    assert cruft.update(project.path, refresh_private_variables=True)
    assert "celery" not in project.read("pyproject.toml")


def test_any_text_stands_intact_after_an_update(template: Path, tmp_path: Path) -> None:
    answers: Answers = {"project_slug": SLUG, **HOSTILE}
    project = create(template, tmp_path, answers)
    begin(project.path)
    assert cruft.update(project.path, extra_context={"task_backend": "Celery"})
    rendered = texts(project)
    del rendered[".cruft.json"]
    assert rendered == render(typed(answers | {"task_backend": "Celery"}))


def released() -> list[str]:
    """Return the tags of this repository that name a release."""
    if not (TEMPLATE / ".git").exists():
        return []
    return re.findall(r"(?m)^[0-9.]+$", git(TEMPLATE, "tag", "--list"))


@pytest.mark.parametrize("tag", released() or ["none yet"])
def test_a_project_of_a_released_version_becomes_one_of_the_present(
    tag: str, tmp_path: Path
) -> None:
    template = snapshot(tmp_path / "template.git")
    if not released():
        git(template, "tag", tag := "0.0.0")
    for name, values in json.loads(git(template, "show", f"{tag}:cookiecutter.json")).items():
        if isinstance(values, list):  # what was chosen then can be chosen still
            assert set(values) <= set(CHOICES.get(name, values)), name
    if not git(template, "diff", "--name-only", tag, "main"):  # as just after a release
        change_template(template)
    project = create(template, tmp_path / "then", {}, checkout=tag)
    begin(project.path)
    edit(project, project.files())
    commit(project.path, "Mine")
    assert cruft.update(project.path, checkout="main")
    expected = create(template, tmp_path / "now", {}, checkout="main")
    edit(expected, project.files())
    assert content(project) == content(expected)


def change_template(template: Path) -> str:
    """Make a version of the template with lines changed, a file more and a file less; tag it."""
    inner = template / "{{cookiecutter.project_slug}}"
    settings = inner / ".env.example"
    settings.write_text(settings.read_text().replace("# The folder for ", "# The place for "))
    metadata = inner / "pyproject.toml"  # the last ones, to which an owner's are added
    text = re.sub('"(structlog|httpx2)>', r'"\1!=99,>', metadata.read_text())
    metadata.write_text(text)
    (inner / "SECURITY.md").write_text("Write to {{ cookiecutter.email }}.\n")
    (inner / ".gitattributes").unlink()
    commit(template, "A later version")
    git(template, "tag", tag := "99.0.0")
    return tag


def blocks(title: str) -> list[str]:
    """Return the commands of a section of the README, block by block."""
    text = (TEMPLATE / "README.md").read_text("utf-8")
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def run(script: str, folder: Path, template: Path) -> str:
    """Run the README's commands to the letter, but for where the template is.

    And but for `uvx`, which would fetch cookiecutter or cruft: those that are here do instead.
    """
    place = re.compile(r"(gh:|https://github\.com/)OWNER/cookiecutter-fastapi-tasks")
    script = 'uvx() { "$@"; }\n' + place.sub(template.as_uri(), script)
    answers = "\n" * 50  # Enter, to every question
    result = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment(),
        input=answers,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_readmes_first_commands_make_a_project_that_runs(tmp_path: Path) -> None:
    (first,) = blocks("Use it")
    *install, start = first.splitlines()
    # A command of the rendered README too, whose tests start it.
    run("\n".join(install), tmp_path, snapshot(tmp_path / "template.git"))
    assert f"\n{start}\n" in Project(tmp_path / SLUG).read("README.md")
    assert (tmp_path / SLUG / ".venv" / "bin" / "uvicorn").exists()


@pytest.mark.long
def test_the_readmes_commands_move_a_project_to_celery_and_to_a_later_version(
    tmp_path: Path,
) -> None:
    template = snapshot(tmp_path / "template.git")
    begin, to_celery, to_newest, _ = blocks("Follow the template")
    run(begin, tmp_path, template)
    project = Project(tmp_path / SLUG)
    edit(project, project.files())
    commit(project.path, "Mine")
    assert " passed" in run(to_celery, project.path, template)
    celery = create(template, tmp_path / "celery", {"task_backend": "Celery"})
    edit(celery, project.files())
    assert content(project) == content(celery)
    change_template(template)
    moved = template.rename(tmp_path / "moved.git")
    rewrite(project, f'"template": "{template}"', f'"template": "{moved}"')
    run(to_newest, project.path, moved)
    project.run("uv", "lock", "--check")  # as CI insists
    newest = create(moved, tmp_path / "newest", {"task_backend": "Celery"})
    edit(newest, project.files())
    assert content(project) == content(newest)
    commit(project.path, "The newest")
    run(to_celery.replace('"Celery"', '"BackgroundTasks"'), project.path, moved)
    assert "celery" not in project.read("pyproject.toml")


@pytest.mark.parametrize("larger", [False, True], ids=["alone", "in a larger repository"])
def test_the_readmes_commands_follow_by_hand(larger: bool, tmp_path: Path) -> None:
    template, folder = tmp_path / "template.git", tmp_path / "repository" / "services"
    folder.mkdir(parents=True)
    project, by_hand = made_by_hand(template, folder)
    repository = folder.parent if larger else project.path
    begin(repository)
    edit(project, project.files())
    commit(repository, "Mine")
    run(by_hand, folder, template)
    expected = Project(folder / "new" / SLUG)
    edit(expected, project.files())
    assert texts(project) == texts(expected)
    assert "SECURITY.md" in project.files()


def test_by_hand_a_file_that_the_owner_removed_is_left_out_as_the_readme_says(
    tmp_path: Path,
) -> None:
    template, folder = tmp_path / "template.git", tmp_path / "folder"
    folder.mkdir()
    project, by_hand = made_by_hand(template, folder)
    (project.path / "SECURITY.md").unlink()
    begin(project.path)
    (exclude,) = re.findall("--exclude='[^']*'", (TEMPLATE / "README.md").read_text("utf-8"))
    run(f"{by_hand.rstrip()} {exclude.replace('kubernetes.yaml', 'SECURITY.md')}", folder, template)
    expected = texts(Project(folder / "new" / SLUG))
    assert expected.pop("SECURITY.md")
    assert texts(project) == expected


def made_by_hand(template: Path, folder: Path) -> tuple[Project, str]:
    """Make a project as the README does without cruft; returns it, and the commands to follow."""
    snapshot(template)
    git(template, "tag", "--force", "0.1.0")
    git(template, "tag", "--force", "0.2.0", change_template(template))
    *_, by_hand = blocks("Follow the template")
    old = next(line for line in by_hand.splitlines() if "-o old" in line)
    first = by_hand.splitlines()[0] + "\n" + old.replace("-o old", "-o .")
    run(first, folder, template)
    return Project(folder / SLUG), by_hand


def test_a_new_slug_moves_the_templates_files_and_git_mv_the_owners(
    fresh: Fresh, tmp_path: Path
) -> None:
    project = fresh({}, tmp_path / "project")
    begin(project.path)
    edit(project, project.files())
    commit(project.path, "Mine")
    cruft.update(project.path, extra_context={"project_slug": "renamed"})
    for name in ADDED:
        if name.startswith("src/"):
            git(project.path, "mv", name, name.replace(SLUG, "renamed"))
    expected = fresh({"project_slug": "renamed"}, tmp_path / "expected")
    assert project.files() == expected.files() | {name.replace(SLUG, "renamed") for name in ADDED}
    assert "import router as reports" in project.read("src/renamed/main.py")
    assert "max_length=100" in project.read("src/renamed/api/items.py")

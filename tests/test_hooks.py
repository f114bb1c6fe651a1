"""The hooks: every bad answer is refused with a line that helps, and nothing stays behind."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.project import SLUG, TEMPLATE, Project, bake, environment
from hooks.post_gen_project import next_steps
from hooks.pre_gen_project import problems, slug_problem, suggestion

from .rendering import typed
from .test_matrix import PYTHONS, interpreter
from .variants import CONTEXT, FLAGS, OPTIONS

GOOD: dict[str, object] = {
    "project_name": "Task Service",
    "project_slug": "task_service",
    "project_short_description": "Does things.",
    "full_name": "Ada",
    "email": "ada@example.com",
    "include_email_task": True,
    "include_log_task": False,
    "task_backend": "Celery",
}


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("project_slug", "my-app", "try my_app"),
        ("project_slug", "My App", "try my_app"),
        ("project_slug", "1st", "try st"),
        ("project_slug", "..", "try task_service"),
        (
            "project_slug",
            "x" * 41,
            f"at most 40 of a-z, 0-9 and _, begin with a letter and not end with _; try {'x' * 40}",
        ),
        ("project_slug", "Class", "try class_service"),
        ("project_slug", "../../etc", "try etc"),
        ("project_slug", "a/b", "try a_b"),
        ("project_slug", "café", "try cafe"),
        ("project_slug", "a_", "try a"),  # no name for a package: PEP 508
        ("project_slug", "test", "try test_service"),
        ("project_slug", "xx", "try xx_service"),  # a module of the standard library to ruff
        ("project_slug", "celery_types", "try celery_types_service"),  # would depend on itself
        ("project_slug", "class", "try class_service"),
        ("project_slug", "match", "word of Python"),
        ("project_slug", "lazy", "word of Python"),
        ("project_slug", "json", "standard library"),
        ("project_slug", "profiling", "standard library"),
        ("project_slug", "fastapi", "package that the project uses"),
        *(
            ("project_slug", name, "Windows")
            for name in ("con", "prn", "aux", "nul", "com0", "com9", "lpt1")
        ),
        ("project_name", " ", "letter"),
        ("project_name", "a ", "space"),
        ("project_name", "x" * 41, "41 characters; 40"),
        ("project_name", "a\nb", "U+000A"),
        ("project_short_description", "a\u202eb", "U+202E"),
        ("full_name", "a\u2028b", "U+2028"),
        ("full_name", "a\u2029b", "U+2029"),
        ("full_name", "a\u2069b", "U+2069"),
        ("full_name", "a\udcffb", "U+DCFF"),  # a byte that was no text on the command line
        ("project_name", "0.0.0.0", "letter"),  # noqa: S104
        ("project_name", "/tmp/x", "begin with /"),  # noqa: S108
        ("project_short_description", "{{ x }}", "{{, which begins an instruction"),
        ("project_short_description", "a {% x", "{%"),
        ("full_name", "{# x", "{#"),
        ("full_name", None, "letter"),
        ("email", "ada", "you@example.com"),
        ("email", "a..b@example.com", "you@example.com"),
        ("email", "a@-.com", "you@example.com"),
        ("email", "é@example.com", "you@example.com"),
        ("email", f"{'a' * 65}@example.com", "you@example.com"),
        ("email", "a@b", "you@example.com"),
        ("email", 'a"b@example.com', "you@example.com"),
        ("email", "a{{b@example.com", "{{, which begins an instruction"),
        ("email", "{%b}@example.com", "{%"),
        ("email", "a.{#b@example.com", "{#"),
        *((flag, "n", "2.7") for flag in FLAGS),
    ],
)
def test_a_bad_answer_is_refused_with_advice(name: str, value: object, advice: str) -> None:
    (line,) = problems(GOOD | {name: value})
    assert line.startswith(f"{name}: {value!r} ")
    assert line.endswith(advice) if "try " in advice else advice in line


def test_a_long_answer_is_shown_in_part() -> None:
    (line,) = problems(GOOD | {"full_name": "x" * 10_000})
    assert len(line) < 200
    assert line.endswith("xxx' has 10000 characters; 100 is the most")
    (line,) = problems(GOOD | {"email": f"a@{'b.' * 130}de"})
    assert line.endswith("has 264 characters; 254 is the most")  # RFC 5321, section 4.5.3.1.3


def test_no_slug_is_taken_that_hides_what_the_project_installs(installed: Project) -> None:
    (packages,) = (installed.path / ".venv").glob("**/site-packages")
    names = {
        entry.name.split(".")[0].removesuffix("-stubs")
        for entry in packages.iterdir()
        if entry.suffix not in (".dist-info", ".pth")
    }
    locked = tomllib.loads(installed.read("uv.lock"))["package"]  # of every platform and extra
    names |= {package["name"].replace("-", "_") for package in locked}
    assert {"fastapi", "pydantic_settings", SLUG} <= names
    assert {name for name in names if not slug_problem(name)} == {SLUG}


NAMES = "import keyword, sys; print(*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist)"
FREE = """
import sys
from hooks.pre_gen_project import slug_problem
print(*[name for name in sys.argv[1:] if not slug_problem(name)])
"""


def test_no_slug_is_taken_that_is_a_word_or_a_module_of_any_python() -> None:
    pythons = [path for path in map(interpreter, PYTHONS) if path]
    template = Project(TEMPLATE)
    names = {name for python in pythons for name in template.run(python, "-c", NAMES).split()}
    for python in pythons:
        assert template.run(python, "-c", FREE, *names).split() == [], python


def test_every_question_is_put_in_words_and_every_choice_explained() -> None:
    prompts = CONTEXT["__prompts__"]
    assert isinstance(prompts, dict)
    assert list(prompts) == list(OPTIONS)
    for name, default in OPTIONS.items():
        words = prompts[name]
        if isinstance(default, list):
            assert list(words) == ["__prompt__", *default]
        for text in words.values() if isinstance(words, dict) else [words]:
            assert text
            assert "[" not in text, "rich takes it for markup"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Task Service", "task_service"),
        ("Café: O'Neil's  best-ever!", "cafe_o_neil_s_best_ever"),
        ("x" * 20 + " " + "y" * 19, "x" * 20 + "_" + "y" * 19),
        ("🚀", "task_service"),  # "" would be the folder ".", which cookiecutter finds there
    ],
)
def test_the_slug_offered_can_be_taken(name: str, slug: str) -> None:
    assert typed({"project_name": name})["project_slug"] == slug
    assert not slug_problem(slug)


def test_odd_but_harmless_text_is_taken() -> None:
    assert problems(GOOD | {"project_name": "O'Neil's \"best\" \\ ${app}}: #1 🚀"}) == []


HOME = {".cookiecutters", ".cookiecutter_replay"}  # what cookiecutter keeps of its own


def refused(folder: Path, *answers: str) -> str:
    """Run the command with bad answers, which leave nothing; returns what it says."""
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    result = subprocess.run(
        [*command, "-o", str(folder / "out"), *answers],
        env=environment(HOME=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert not list((folder / "out").rglob("*"))
    return result.stderr


def test_all_bad_answers_are_named_at_once_and_nothing_stays(tmp_path: Path) -> None:
    said = refused(tmp_path, "project_slug=my-app", "email=nobody")
    assert "error: project_slug: 'my-app'" in said
    assert "error: email: 'nobody'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("slug", ["", "..", "../up", "a/b", pytest.param("x" * 300, id="long")])
def test_a_slug_that_can_be_no_folder_is_refused_like_any_other(slug: str, tmp_path: Path) -> None:
    said = refused(tmp_path, f"project_slug={slug}")
    assert "error: project_slug: " in said
    assert f"; try {suggestion(slug)}" in said
    assert "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"out", *HOME}


@pytest.mark.parametrize("answer", ["task_backend=celery", "include_log_task=perhaps"])
def test_what_is_no_choice_is_named_in_the_last_line_as_the_readme_says(
    answer: str, tmp_path: Path
) -> None:
    *_, last = refused(tmp_path, answer).splitlines()
    assert all(word in last for word in answer.split("="))
    readme = " ".join((TEMPLATE / "README.md").read_text("utf-8").split())
    assert "by the last line where its option has no such choice" in readme


def test_cookiecutter_runs_jinja_on_the_command_line_as_the_readme_says(tmp_path: Path) -> None:
    assert "TemplateSyntaxError" in refused(tmp_path, "full_name={{ x")
    assert "42 Ltd" in bake(tmp_path, full_name="{{ 6 * 7 }} Ltd").read("LICENSE")
    readme = " ".join((TEMPLATE / "README.md").read_text("utf-8").split())
    assert "on the command line and in your configuration before they can be refused" in readme


def test_a_name_without_a_letter_is_what_is_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, "project_name=🚀")
    assert "error: project_name: '🚀' must hold a letter" in said
    assert "already exists" not in said


def test_the_next_steps_fit_the_answers() -> None:
    steps = next_steps("task_service", celery=True, any_task=True)
    assert steps[:2] == ["cd task_service", "uv sync"]
    assert steps[-1] == "uv run celery -A task_service.worker worker"
    assert "make" not in "\n".join(steps)  # Windows has none
    steps = next_steps("task_service", celery=False, any_task=False)
    assert "worker" not in "\n".join(steps)
    assert "README" in steps[-1]


@pytest.mark.parametrize("backend", ["BackgroundTasks", "Celery"])
@pytest.mark.parametrize("task", ["yes", "no"])
def test_the_real_command_prints_the_next_steps(backend: str, task: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    command += ["--default-config", f"task_backend={backend}", "project_slug=shop"]
    command += [f"{flag}={task}" for flag in FLAGS]
    home = environment(HOME=str(tmp_path))  # where it keeps the answers
    shown = subprocess.check_output(command, cwd=tmp_path, env=home, text=True)
    steps = next_steps("shop", celery=backend == "Celery", any_task=task == "yes")
    assert shown == "\n".join(["", "Next:", *(f"  {step}" for step in steps), "", ""])

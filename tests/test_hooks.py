"""The hooks: every bad answer is refused with a line that helps, and nothing stays behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.project import TEMPLATE, bake
from hooks.post_gen_project import next_steps
from hooks.pre_gen_project import problems

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
        ("project_slug", "class", "try class_service"),
        ("project_slug", "match", "word of Python"),
        ("project_slug", "json", "standard library"),
        ("project_slug", "fastapi", "package that the project uses"),
        ("project_slug", "nul", "Windows"),
        ("project_name", " ", "letter"),
        ("project_name", "a ", "space"),
        ("project_name", "x" * 41, "41 characters; 40"),
        ("project_name", "a\nb", "U+000A"),
        ("project_short_description", "a\u202eb", "U+202E"),
        ("full_name", "a\u2028b", "U+2028"),
        ("email", "ada", "you@example.com"),
        ("email", 'a"b@example.com', "you@example.com"),
        ("include_log_task", "n", "2.7"),
    ],
)
def test_a_bad_answer_is_refused_with_advice(name: str, value: object, advice: str) -> None:
    (line,) = problems(GOOD | {name: value})
    assert line.startswith(f"{name}: {value!r} ")
    assert advice in line


def test_odd_but_harmless_text_is_taken() -> None:
    assert problems(GOOD | {"project_name": "O'Neil's \"best\" \\ ${app}}: #1 🚀"}) == []


def test_all_bad_answers_are_named_at_once_and_nothing_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    result = subprocess.run(
        [*command, "-o", str(tmp_path / "out"), "project_slug=my-app", "email=nobody"],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "error: project_slug: 'my-app'" in result.stderr
    assert "error: email: 'nobody'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").rglob("*"))


def test_the_next_steps_fit_the_answers() -> None:
    assert next_steps(GOOD)[:2] == ["cd task_service", "uv sync"]
    assert "make worker" in "\n".join(next_steps(GOOD))
    simple = next_steps(GOOD | {"task_backend": "BackgroundTasks", "include_email_task": False})
    assert "worker" not in "\n".join(simple)
    assert "README" in simple[-1]


def test_the_real_command_renders_the_defaults(tmp_path: Path) -> None:
    assert "task_service" in bake(tmp_path).read("pyproject.toml")

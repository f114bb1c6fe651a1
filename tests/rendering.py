"""The template rendered in this process, by cookiecutter's own functions, for very many answers."""

import functools
from unittest import mock

from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from jinja2 import Environment, FileSystemLoader, Template

from harness.project import TEMPLATE

from .variants import CONTEXT, OPTIONS

Answers = dict[str, object]
Files = dict[str, str]

ROOT = TEMPLATE / "{{cookiecutter.project_slug}}"
CHOICES = {
    name: default if isinstance(default, list) else [True, False]
    for name, default in OPTIONS.items()
    if isinstance(default, list | bool)
}


@functools.cache
def environment() -> Environment:
    """Return cookiecutter's environment for the template, which compiles each text only once."""
    made: Environment = create_env_with_context({"cookiecutter": CONTEXT})
    made.loader = FileSystemLoader([ROOT, TEMPLATE / "templates"])
    made.from_string = functools.cache(made.from_string)  # type: ignore[assignment,method-assign]
    return made


@functools.cache
def templates() -> list[tuple[Template, Template]]:
    """Return the template's files, compiled: their names and their contents."""
    names = [
        path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*")) if path.is_file()
    ]
    return [(environment().from_string(name), environment().get_template(name)) for name in names]


def typed(answers: Answers) -> Answers:
    """Return cookiecutter's context for answers as a person types them at its prompts."""

    def answer(name: str, default: object, *_: object) -> object:
        return answers.get(name, default[0] if isinstance(default, list) else default)

    with mock.patch.multiple(
        "cookiecutter.prompt",
        create_env_with_context=lambda _: environment(),
        read_user_variable=answer,
        read_user_choice=answer,
        read_user_yes_no=answer,
    ):
        return dict(prompt_for_config(generate_context(TEMPLATE / "cookiecutter.json")))


def render(context: Answers) -> Files:
    """Return the texts of the project's files."""
    rendered = ((name.render(cookiecutter=context), text) for name, text in templates())
    return {
        name: text.render(cookiecutter=context)
        for name, text in rendered
        if name and not name.endswith("/")
    }

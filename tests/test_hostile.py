"""Hostile answers: whatever is typed stands intact wherever it is used, or is refused.

The examples are rendered in this process, by cookiecutter's own functions; a sample goes through
the real command as well, which must give the same files.
"""

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from cookiecutter.cli import main as cookiecutter
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml

from harness.project import TEMPLATE, Project, bake
from hooks.pre_gen_project import BIDIRECTIONAL, LONGEST, problems, slug_problem, taken_by

from .rendering import CHOICES, Answers, Files, render, typed
from .variants import OPTIONS

TEXTS = ("project_name", "project_short_description", "full_name", "email")
# Stand-ins that occur nowhere else: where one stands, an answer must stand.
STAND_INS: Answers = {
    "project_name": "Qnameq",
    "project_slug": "q_slug_q",
    "project_short_description": "Qdescriptionq",
    "full_name": "Qauthorq",
    "email": "qemailq@example.com",
}
FRAGMENTS = [
    *("'", '"', "''", '""', '"""', "\\", "\\\\", '\\"', "\\'", "\\n", "\\x41", "\\u0041"),
    *("🚀", "👩\u200d👧", "e\u0301", "中文", "\u0635", "\u00a0", "\u200b", "\ufeff", "\u2e3b"),
    *("}}", "%}", "#}", "{ {", "${HOME}", "$(id)", "%s", "%(a)s", "{app}", "{0}", "`id`", "~~~"),
    *(": ", " #", "# ", "- ", "* ", "+ ", "1. ", "1) ", "> ", "---", "===", "***", "| a |", "!"),
    *("&amp;", "<b>", "</h1>", "<!--", "[a](b)", "![", "[^1]", "*a*", "_a_", "__a__", "``", "~"),
    *("null", "yes", "None", "True", "0x1F", "class", "0.0.0.0", "/tmp/", "\\N{DASH}"),  # noqa: S104, S108
    *("http://a.b", "# noqa", "type: ignore", "SELECT * FROM a", "a", "B", "7", "  ", ",", "@"),
]


# A failure is told at once, as found: to make it shorter takes minutes.
hostile = settings(deadline=None, database=None, phases=(Phase.explicit, Phase.generate))


def tidy(text: str, longest: int, alphabetic: str = "a") -> str:
    """Return the text with as little changed as makes it a good answer."""
    text = re.sub(r"\{(?=[{%#])", "(", text)[:longest].strip().lstrip("/").strip()
    return text if any(map(str.isalpha, text)) else f"{text[: longest - 1]}{alphabetic}"


def texts(longest: int) -> st.SearchStrategy[str]:
    """Generate good answers, of fragments that mean something to one of the formats."""
    harmless = st.characters(
        codec="utf-8",
        exclude_categories=("Cc", "Zl", "Zp", "Cs"),
        exclude_characters="".join(BIDIRECTIONAL),
    )
    parts = st.sampled_from(FRAGMENTS) | st.text(harmless, max_size=longest)
    return st.lists(parts, max_size=8).map(lambda found: tidy("".join(found), longest))


SLUGS = st.from_regex(r"[a-z]([a-z0-9_]{0,38}[a-z0-9])?", fullmatch=True)
# In a link %21 is an exclamation mark, and of mailto://@ markdown-it makes mailto://: nobody has
# such an address, and Hypothesis finds one in every few runs.
EMAILS = st.emails().filter(lambda text: not re.search(r"\{[{%#]|%[0-9A-Fa-f]{2}|^//@", text))
GOOD = st.fixed_dictionaries(
    {name: texts(longest) for name, longest in LONGEST.items()}
    | {"project_slug": SLUGS.filter(lambda slug: not taken_by(slug)), "email": EMAILS}
    | {name: st.sampled_from(values) for name, values in CHOICES.items()}
)
ANYTHING = st.fixed_dictionaries(
    {
        name: st.text(max_size=300) | st.lists(st.sampled_from(FRAGMENTS)).map("".join)
        for name in STAND_INS
    }
)


@functools.cache
def stand_in(choices: tuple[object, ...]) -> Files:
    """Return the project that has the stand-ins for its answers."""
    return render(typed(STAND_INS | dict(zip(CHOICES, choices, strict=True))))


def plain(node: object) -> object:
    """Return a syntax tree as lists and dicts."""
    if isinstance(node, ast.AST):
        fields = {name: plain(value) for name, value in ast.iter_fields(node)}
        return {"node": type(node).__name__} | fields
    return [plain(item) for item in node] if isinstance(node, list) else node


def replaced(value: object, replace: Callable[[str], str]) -> object:
    """Return data with every string in it replaced."""
    match value:
        case str():
            return replace(value)
        case list():
            return [replaced(item, replace) for item in value]
        case dict():
            return {replaced(key, replace): replaced(item, replace) for key, item in value.items()}
    return value


class HtmlReader(HTMLParser):
    """What a browser makes of a page: its elements and texts, in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[object] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.found.append([tag, dict(attrs)])

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.found.append(data)


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
READERS: dict[str, Callable[[str], object]] = {
    ".html": lambda page: HtmlReader(page).found,
    ".json": json.loads,
    # A link's address is encoded where its text is not.
    ".md": lambda text: re.sub(r'(?<=href="mailto:)[^"]*', "", MARKDOWN.render(text)),
    ".py": lambda text: plain(ast.parse(text)),
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}


@functools.cache
def read(suffix: str, text: str) -> object:
    """Return what a file says to who reads its format."""
    return READERS[suffix](text)


def pieces(files: Files) -> Iterator[tuple[str, str]]:
    """Yield each file's name and text; Markdown by sections, as to read all of it takes longest."""
    for name, text in files.items():
        for piece in text.split("\n## ") if name.endswith(".md") else [text]:
            yield name, piece


def check(context: Answers) -> Files:
    """Check that each answer stands intact wherever it is used; return the project's files."""
    expected = stand_in(tuple(context[name] for name in CHOICES))
    answers = {str(text): str(context[name]) for name, text in STAND_INS.items()}
    # Kubernetes' names have no underscores.
    answers["q-slug-q"] = str(context["project_slug"]).replace("_", "-")
    pattern = re.compile("|".join(map(re.escape, answers)))

    def replace(text: str) -> str:
        return pattern.sub(lambda match: answers[match.group()], text)

    def replace_html(text: str) -> str:
        return pattern.sub(lambda match: escapeHtml(answers[match.group()]), text)

    files = render(context)
    assert list(files) == [replace(name) for name in expected]
    for (name, text), (_, before) in zip(pieces(files), pieces(expected), strict=True):
        suffix = Path(name).suffix
        if not any(str(STAND_INS[answer]) in before for answer in TEXTS) or name == "LICENSE":
            assert text == replace(before), name
        elif suffix not in READERS:
            raise AssertionError(f"{name} holds an answer: who reads it back?")
        elif suffix == ".md":
            assert READERS[suffix](text) == replace_html(str(read(suffix, before))), name
        else:
            assert READERS[suffix](text) == replaced(read(suffix, before), replace), name
    return files


def lint(folder: Path, files: Iterable[str], examples: list[Answers]) -> None:
    """Check files of the folder's projects, which are named by their number, with two calls."""
    for command in (["check", "--output-format=concise"], ["format", "--check"]):
        result = subprocess.run(
            [Path(sys.executable).with_name("ruff"), *command, "--no-cache", *files],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        number = re.search(r"\b(\d+)/(src|tests|pyproject)", result.stdout)
        guilty = examples[int(number[1])] if number else None
        assert result.returncode == 0, f"{guilty}\n{result.stdout[:3000]}{result.stderr}"


SEEDS: list[Answers] = [
    # A quote, which breaks most templates.
    {"project_name": 'The "best" service', "project_short_description": 'It is "quick".'},
    {"project_name": "O'Neil's \"own\" \\'thing\\", "full_name": 'O\'Neil "Jr." \\'},
    # Ruff takes a typographic apostrophe, as it takes Cyrillic, for a mistake (RUF001).
    {"project_name": "O\u2019Neil", "full_name": "Анна"},
    # Markdown made these a list, a heading that ends early, a link, markup.
    {"project_short_description": "1. first of all"},
    {"project_short_description": "- a dash", "project_name": "Learn C #"},
    {
        "project_name": "<b> & [x](y) *z* `q`",
        "project_short_description": "+ &amp; _this_ ~~that~~",
    },
    # As wide as can be: 80 columns, and in the escapes.
    {"project_name": "\\" * 39 + "a", "project_slug": "a"},
    {"project_name": "中" * 40, "project_slug": "a" * 40},
    {"project_name": "🚀 " + "\"'" * 18 + "a", "project_short_description": "x" * 200},
    {"project_name": "null", "project_short_description": "yes: # ${HOME} %s", "full_name": "~a"},
    {"full_name": "Doe, Jane", "email": "o'neil+x@example.com"},
    # The address of a link encodes the per cent sign.
    {"email": "%3*&@example.com"},
]


def complete(answers: Answers) -> Answers:
    """Return the answers with a good one for each that is not given."""
    return (
        {"project_slug": "service", "project_name": "A", "project_short_description": "B"}
        | {"full_name": "C", "email": "d@example.com"}
        | {name: values[0] for name, values in CHOICES.items()}
        | answers
    )


def test_good_answers_stand_intact_in_formatted_files(tmp_path: Path) -> None:
    examples: list[Answers] = []
    unique: dict[str, str] = {}

    @settings(hostile, max_examples=500)
    @given(answers=GOOD)
    def intact(answers: Answers) -> None:
        assert answers.keys() == OPTIONS.keys()
        context = typed(answers)
        assert problems(context) == []
        files = check(context)
        folder = tmp_path / str(len(examples))
        for name, text in files.items():
            if name.endswith((".py", ".toml")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, "utf-8")
                unique.setdefault(text, f"{len(examples)}/{name}")
        examples.append(answers)

    for answers in SEEDS:
        intact = example(answers=complete(answers))(intact)
    intact()
    assert len(examples) >= 500
    lint(tmp_path, unique.values(), examples)


def is_bad(name: str, text: str) -> bool:
    """Tell, by the words of the README, whether a free text must be refused."""
    categories = {unicodedata.category(character) for character in text}
    return (
        not any(category.startswith("L") for category in categories)
        or text != text.strip()
        or len(text) > LONGEST[name]
        or any(opening in text for opening in ("{{", "{%", "{#"))
        or not categories.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
        or not BIDIRECTIONAL.isdisjoint(text)
        or (name == "project_name" and text.startswith("/"))
    )


@settings(hostile, max_examples=300)
@given(answers=ANYTHING)
@example(
    answers={"project_name": "a\nb", "project_short_description": "\u202eb", "full_name": "{{ a }}"}
)
@example(
    answers={"project_name": "{% raw %}", "project_short_description": "x" * 201, "full_name": " a"}
)
@example(answers={"project_name": "0.0.0.0", "project_short_description": "", "full_name": "{#a"})  # noqa: S104
@example(answers={"project_name": "/tmp/a", "project_short_description": "\u2028a"})  # noqa: S108
def test_any_answers_are_taken_intact_or_refused_by_name(answers: Answers) -> None:
    context = typed(complete(answers))
    lines = problems(context)
    refused = {line.partition(":")[0] for line in lines}
    assert refused & set(LONGEST) == {n for n in LONGEST if is_bad(n, str(context[n]))}
    assert all(len(line) < 300 and line.isprintable() for line in lines), lines
    if not refused:
        check(context)


@settings(hostile, max_examples=500)
@given(slug=st.text(max_size=300) | SLUGS | st.sampled_from(FRAGMENTS))
@example(slug="Class")
@example(slug="nul ")
@example(slug="CELERY")
@example(slug="../..")
@example(slug="..\\con")
@example(slug="import " * 40)
@example(slug="café")
@example(slug="trailing_")
@example(slug="json" + "_" * 40 + "x")
def test_a_refused_slug_comes_with_one_that_is_taken(slug: str) -> None:
    problem = slug_problem(slug)
    if problem:
        assert slug_problem(problem.rpartition("try ")[2]) == ""


@pytest.mark.parametrize("answers", SEEDS, ids=range(len(SEEDS)))
def test_the_real_command_renders_the_same(answers: Answers, tmp_path: Path) -> None:
    given = complete(answers)
    config = tmp_path / "config"
    config.write_text(f"replay_dir: {tmp_path}/replay\n")
    options = ["--no-input", "--config-file", str(config), "--output-dir", str(tmp_path)]
    options += [f"{name}={value}" for name, value in given.items()]
    result = CliRunner().invoke(cookiecutter, [str(TEMPLATE), *options])
    assert result.exit_code == 0, result.output
    project = Project(tmp_path / str(given["project_slug"]))
    assert {name: project.read(name) for name in project.files()} == render(typed(given))


def test_the_running_service_and_its_package_say_what_was_answered(tmp_path: Path) -> None:
    answers = {
        "project_name": 'O\u2019Neil\'s "best" \\ service: #1 🚀',
        "project_short_description": 'Says "{x}" & <b>, \\n ${HOME}; 名前: null # 50 %',
        "full_name": 'Doe, Jane "J." \\',
        "email": "o'neil+x@example.com",
    }
    project = bake(tmp_path, **answers, project_slug="best")
    project.sync()
    code = (
        "import importlib.metadata, json, best.main as main;"
        "package = importlib.metadata.metadata('best');"
        "info = main.app.openapi()['info'];"
        "author = package['Author'], package['Author-email'];"
        "print(json.dumps([info['title'], info['summary'], *author]))"
    )
    title, summary, *author = json.loads(
        subprocess.run(
            [project.bin("python"), "-c", code],
            cwd=tmp_path,
            env=os.environ | {"DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            check=True,
        ).stdout
    )
    assert title == answers["project_name"]
    assert summary == answers["project_short_description"]
    assert author == [answers["full_name"], answers["email"]]

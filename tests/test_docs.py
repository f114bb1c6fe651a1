"""The README says what is so."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from benchmarks import faults, losses
from benchmarks.__main__ import PARTS
from benchmarks.report import judge
from harness.demo import show
from harness.project import TEMPLATE, environment
from harness.service import running
from hooks.pre_gen_project import LONGEST

from .conftest import Install
from .variants import FULL, OPTIONS

README = (TEMPLATE / "README.md").read_text("utf-8")


def test_the_option_table_equals_cookiecutter_json() -> None:
    rows = []
    for name, default in OPTIONS.items():
        match default:
            case bool():
                choices, first = "yes, no", "yes" if default else "no"
            case list():
                choices, first = ", ".join(f"`{value}`" for value in default), f"`{default[0]}`"
            case _:
                text = str(default)
                choices, first = "text", "from the name" if "{{" in text else f"`{text}`"
        rows.append(f"| `{name}` | {choices} | {first} |")
    table = re.search(r"\| option .*?\n\n", README, re.DOTALL)
    assert table
    assert table.group().strip().splitlines()[2:] == rows


def test_the_longest_answers_are_as_it_says() -> None:
    words = " ".join(README.split())
    name, description, author = (
        LONGEST[key] for key in ("project_name", "project_short_description", "full_name")
    )
    assert f"A project's name has at most {name} characters" in words
    assert f"an author's has {author}, a description {description}." in words


def test_its_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures == ["docs/page.png", "docs/bench.svg"]
    for picture in pictures:
        assert (TEMPLATE / picture).read_bytes().startswith((b"\x89PNG", b"<?xml")), picture
        assert (TEMPLATE / picture).stat().st_size < 150_000, picture


def test_its_plot_and_its_words_have_the_same_figures() -> None:
    figures = re.findall(r">([\d,]+)</text>", (TEMPLATE / "docs/bench.svg").read_text("utf-8"))
    assert len(figures) == 8
    words = re.sub(r"!\[.*?\]", "", README, flags=re.DOTALL)
    assert {
        each for each in figures if not re.search(rf"(?<![\d.,]){each}(?![\d,])", words)
    } == set()


def demo(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `make demo` with the environment that is here."""
    here = ["--old-file=.venv/ready", f"RUN={shlex.quote(str(Path(sys.executable).parent))}/"]
    return subprocess.run(
        ["make", *here, "demo", *options],
        cwd=TEMPLATE,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_shows_what_the_readme_says(tmp_path: Path) -> None:
    assert "\nmake demo  " in README
    others = {"API_KEY": "another program's", "http_proxy": "http://127.0.0.1:1"}
    result = demo(TMPDIR=str(tmp_path), **others)
    assert result.returncode == 0, result.stderr
    assert "\nAll as promised" in result.stdout
    (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+/(?=items)", result.stdout))
    with pytest.raises(httpx2.ConnectError):  # it has stopped all
        httpx2.get(url)


def test_a_demo_that_is_not_as_promised_fails(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(install(FULL[0]), tmp_path / "data") as service:
        for name, promised, told in [
            ("FILES", {"log.txt": "Lamp\n"}, r"expected 'Lamp\\n', got 'Item Lamp"),
            ("REQUESTS", [("/items/", {"name": "Lamp"}, "Done!")], "expected 'Done!', got 'Item"),
            ("REQUESTS", [("/items/", {"name": ""}, "")], "expected 202, got 422"),
        ]:
            with monkeypatch.context() as patch:
                patch.setattr(f"harness.demo.{name}", promised)
                with pytest.raises(AssertionError, match=told):
                    show(service)


def test_a_demo_is_kept_running_and_says_where(tmp_path: Path) -> None:
    assert "\nmake demo BACKEND=Celery  " in README
    said = demo("BACKEND=Celery", "KEEP=1", TMPDIR=str(tmp_path)).stdout
    found = re.search(r"It runs on: (.+), from .+\nStop it with: kill (\d+) (\d+)\n", said)
    assert found, said
    url, *pids = found.groups()
    try:
        assert httpx2.get(url).status_code == 200
    finally:
        for pid in pids:
            os.kill(int(pid), signal.SIGTERM)


def test_a_demo_that_cannot_install_says_why(tmp_path: Path) -> None:
    (tmp_path / ".cookiecutterrc").write_text("default_context: {email: ada@localhost}")
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "no")}
    result = demo(**offline, HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert result.returncode != 0
    assert "\nerror: uv sync" in result.stderr
    assert "network was disabled" in result.stderr
    assert "Traceback" not in result.stderr


def test_make_bench_measures_all_but_the_million() -> None:
    printed = subprocess.check_output(["make", "-n", "bench"], cwd=TEMPLATE, text=True)
    measured = printed.splitlines()[-1].partition("-m benchmarks")[2].split()
    assert [*measured, "million"] == list(PARTS)


@pytest.mark.parametrize(
    ("promises", "kept", "broken"),
    [
        (
            [promised for _, promised in losses.FAULTS.values()],
            ["0 lost, 3 sent twice", "0 lost", "0.02 s"],
            ["1 lost, 0 sent twice", "10 lost", "1.02 s"],
        ),
        (
            list(faults.FAULTS.values()),
            ["404", "all run in 59 s", "503 after 0.0 s", "202 after 0.1 s", "503 after 1.9 s"],
            ["200 PENDING", "1 not run in 60 s", "503 after 2.0 s", "503 after 0.0 s", "no answer"],
        ),
    ],
    ids=["losses", "faults"],
)
def test_what_make_prints_fails_where_a_promise_is_broken(
    promises: list[str], kept: list[str], broken: list[str]
) -> None:
    titles = [f"fault {number}" for number in range(len(kept))]
    judge(list(zip(titles, broken, kept, strict=True)), promises)
    for number, title in enumerate(titles):
        rendered = [*kept[:number], broken[number], *kept[number + 1 :]]
        with pytest.raises(SystemExit) as ended:
            judge(list(zip(titles, kept, rendered, strict=True)), promises)
        assert ended.value.code == f"error: {title}: {broken[number]}"

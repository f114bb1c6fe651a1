"""What a bake costs, beside an empty template's, and how soon its service answers."""

import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.project import TEMPLATE, bake, environment
from harness.service import running

from .measure import progress
from .report import table

ROUNDS = 15


def cost(command: list[str], home: Path) -> tuple[float, float]:
    """Run a command; returns the seconds that it took, and those of a processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(HOME=str(home)))
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def empty_template(folder: Path) -> Path:
    """Make a template of one empty file, without a hook."""
    project = folder / "empty" / "{{cookiecutter.project_slug}}"
    project.mkdir(parents=True)
    (project / "README.md").touch()
    (project.parent / "cookiecutter.json").write_text('{"project_slug": "empty"}')
    return project.parent


def run() -> None:
    """Bake both templates in turn, and print a table of whole processes."""
    with tempfile.TemporaryDirectory(prefix="bake-") as name:
        folder = Path(name)
        render = [sys.executable, "-m", "cookiecutter", "--no-input"]
        commands = {
            "an empty template": [*render, str(empty_template(folder))],
            "this one": [*render, str(TEMPLATE)],
            "this one without its hooks": [*render, "--accept-hooks", "no", str(TEMPLATE)],
        }
        costs: dict[str, list[tuple[float, float]]] = {title: [] for title in commands}
        for number in range(ROUNDS + 1):
            for title, command in commands.items():
                into = ["--output-dir", str(folder / f"{number}-{title.replace(' ', '-')}")]
                costs[title].append(cost([*command, *into], folder))
    rows = []
    for title, figures in costs.items():
        took, processor = zip(*figures[1:], strict=True)  # the first one fills the caches
        cells = (min(took), statistics.median(took), statistics.median(processor))
        rows.append([title, *(f"{cell:.3f} s" for cell in cells)])
    header = ["", "fastest", "median", "processor, median"]
    table(f"A bake, whole process, {ROUNDS} in turn", header, rows)
    first_answers()


def first_answers() -> None:
    """Print the time from the start of a bake to the first 202, with all packages in uv's cache.

    Unless it is offline, uv asks the index for each package whether the cache is still right.
    """
    rows = []
    for backend, options in itertools.product(("BackgroundTasks", "Celery"), ((), ("--offline",))):
        title = " ".join((backend, *options))
        times = []
        for number in range(4):
            progress(f"from a bake of {title} to its first 202, {number} of 3")
            with tempfile.TemporaryDirectory(prefix="first-") as name:
                start = time.perf_counter()
                project = bake(Path(name), task_backend=backend)
                baked = time.perf_counter() - start
                project.sync(*options)
                installed = time.perf_counter() - start
                with running(project, Path(name, "data")) as service:
                    service.client.post("/items/?name=Lamp").raise_for_status()
                    times.append((baked, installed, time.perf_counter() - start))
        columns = zip(*times[1:], strict=True)  # the first one fills the cache
        rows.append([title, *(f"{statistics.median(each):.1f} s" for each in columns)])
    header = ["", "baked after", "installed after", "first 202 after"]
    table("From the bake to the first 202, median of 3", header, rows)

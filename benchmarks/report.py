"""Tables that can be pasted, the machine they come from, and the plot for the README."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.project import TEMPLATE, Project

PLOT = TEMPLATE / "docs" / "bench.svg"
COLOURS = {"rendered": "#059669", "bare": "#d7dadd"}  # by the first word; others are grey


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n**{title}**\n")
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def judge(rows: Iterable[Sequence[str]], promises: Iterable[str]) -> None:
    """Exit with 1, having named them, where last cells do not begin as promised: by a pattern."""
    broken = [
        f"error: {fault}: {cell}"
        for (fault, *_, cell), promised in zip(rows, promises, strict=True)
        if not re.match(promised, cell)
    ]
    if broken:
        sys.exit("\n".join(broken))


def machine(project: Project) -> str:
    """Return the processor, the system, and the versions that count."""
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = next(line.split(":")[1] for line in info.splitlines() if line.startswith("model name"))
    versions = [
        line.replace("==", " ")
        for line in project.run("uv", "pip", "freeze").splitlines()
        if line.partition("==")[0]
        in {"celery", "fastapi", "kombu", "redis", "starlette", "uvicorn"}
    ]
    return (
        f"{os.cpu_count()} cores ({model.strip()}), {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def wrk_version() -> str:
    """Return wrk's name and version."""
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return " ".join(shown.stdout.split()[:2])


def plot(panels: Sequence[tuple[str, dict[str, float]]], caption: str) -> Path:
    """Draw the README's plot, bars side by side, one panel for each measure; returns the file."""
    import matplotlib as mpl  # only here: the tables need no drawing

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 1.7))
    for axis, (title, values) in zip(axes, panels, strict=True):
        names = list(values)[::-1]
        colours = [COLOURS.get(each.partition(" ")[0].strip(","), "#9aa0a6") for each in names]
        bars = axis.barh(names, [values[each] for each in names], color=colours, height=0.6)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.set_title(title, loc="left", fontsize=10)
        axis.margins(x=0.25)
        axis.spines[:].set_visible(False)
        axis.tick_params(left=False, bottom=False, labelbottom=False)
    figure.text(0.01, 0.01, caption, fontsize=7, color="#5f6368")
    figure.tight_layout(rect=(0, 0.06, 1, 1), w_pad=2)
    figure.savefig(PLOT, metadata={"Date": None})
    return PLOT

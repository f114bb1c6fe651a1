"""``make release``: tag the version of ``pyproject.toml``, once all that it promises is checked."""

import os
import re
import subprocess
import sys
import tomllib
from datetime import date

from .project import TEMPLATE
from .repository import git


def version() -> str:
    """Return the template's version, which stands in ``pyproject.toml`` alone."""
    metadata = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))
    return str(metadata["project"]["version"])


def number(text: str) -> tuple[int, ...]:
    """Return ``1.2.3`` as numbers, so that versions can be compared."""
    return tuple(map(int, text.split(".")))


def sections() -> dict[str, tuple[str, str]]:
    """Return the date and the notes of each version in the changelog, the newest first."""
    text = (TEMPLATE / "CHANGELOG.md").read_text("utf-8")
    parts = re.split(r"(?m)^## \[(.+?)\](?: - (.+))?\n", text)[1:]
    groups = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: (day or "", notes.strip()) for name, day, notes in groups}


def problems(new: str) -> list[str]:
    """Return a line for each thing that keeps ``new`` from being released."""
    found = []
    if git(TEMPLATE, "branch", "--show-current") != "main":
        found.append("the branch is not main, from which releases are made")
    if git(TEMPLATE, "status", "--porcelain"):
        found.append("the working tree is not clean: commit or stash first")
    if not re.fullmatch(r"\d+\.\d+\.\d+", new):
        return [*found, f"pyproject.toml: version {new!r} is not like 1.2.3"]
    tags = re.findall(r"(?m)^\d+\.\d+\.\d+$", git(TEMPLATE, "tag", "--list"))
    if tags and number(new) <= number(last := max(tags, key=number)):
        found.append(f"pyproject.toml: version {new} is not above the last tag, {last}")
    changelog = sections()
    if changelog.get("Unreleased", ("", ""))[1]:
        found.append(f"CHANGELOG.md: move what is under [Unreleased] to [{new}]")
    day, notes = changelog.get(new, ("", ""))
    if not notes:
        found.append(f"CHANGELOG.md: nothing is said of [{new}]")
    elif day != date.today().isoformat():  # noqa: DTZ011, the maintainer's own day
        found.append(f"CHANGELOG.md: write [{new}] - {date.today()}")  # noqa: DTZ011
    return found


def main() -> None:
    """Check, run all tests, tag; exits with 1, having said why, before it tags."""
    new = version()
    if lines := problems(new):
        sys.exit("\n".join(f"error: {line}" for line in lines))
    commit = git(TEMPLATE, "rev-parse", "HEAD")
    checks = ["make", "lint", "test", "test-matrix"]
    nothing_skipped = os.environ | {"CI": "true"}
    if subprocess.run(checks, cwd=TEMPLATE, env=nothing_skipped, check=False).returncode:
        sys.exit("error: the checks failed: nothing was tagged")
    message = f"{new}\n\n{sections()[new][1]}"  # git takes its headings for comments otherwise
    try:
        git(TEMPLATE, "tag", "--cleanup=whitespace", f"--message={message}", new, commit)
    except subprocess.CalledProcessError:
        sys.exit("error: git says why: nothing was tagged")
    print(f"Tagged {new}. To publish it: git push --atomic origin main {new}")


if __name__ == "__main__":
    main()

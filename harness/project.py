"""A rendered project: its files, its environment, its commands."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).parent.parent
SLUG = "task_service"
EXAMPLE = TEMPLATE / "{{cookiecutter.project_slug}}" / ".env.example"
# The machine may have them set for something else: API_KEY, for one.
SETTINGS = re.findall(r"^(\w+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A project on disk; ``path`` is its root."""

    path: Path

    def files(self) -> set[str]:
        """Return the paths of all files, relative to the root, without what tools leave there."""
        ignored = {".venv", ".git", "data", "dist", "uv.lock", "__pycache__"}
        paths = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
        return {
            p.as_posix()
            for p in paths
            if not any(part in ignored or part.endswith("_cache") for part in p.parts)
        }

    def read(self, name: str) -> str:
        """Return a file's text."""
        return (self.path / name).read_text("utf-8")

    def bin(self, name: str) -> str:
        """Return the path of a program in the project's own environment."""
        return str(self.path / ".venv" / "bin" / name)

    def run(self, *command: str, **settings: str) -> str:
        """Run a command in the root; returns its output, raises AssertionError if it fails."""
        result = subprocess.run(
            command,
            cwd=self.path,
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        if result.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{result.stdout}")
        return result.stdout

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a file's only ``old``; raises AssertionError where there is none, or another."""
        text = self.read(name)
        if text.count(old) != 1:
            raise AssertionError(f"{name} has not one {old!r}")
        (self.path / name).write_text(text.replace(old, new), "utf-8")

    def sync(self, *options: str, python: str = sys.executable) -> None:
        """Make the project's own environment, from what it declares."""
        self.run("uv", "sync", "--quiet", "--python", python, *options)
        if shared := os.environ.get("SHARED_BYTECODE"):
            self._share_bytecode(Path(shared))

    def _share_bytecode(self, shared: Path) -> None:
        """Compile what others have compiled no second time: uv links to the same files in each."""
        (packages,) = self.path.glob(".venv/lib/*/site-packages")
        for folder in {path.parent for path in packages.rglob("*.py")}:
            compiled = shared / folder.relative_to(packages)
            compiled.mkdir(parents=True, exist_ok=True)
            (folder / "__pycache__").symlink_to(compiled)


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with ``uv``, but no virtual environment and no setting."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    # Without bytecode a service compiles itself at every start, which takes longer than the rest.
    # Unbuffered, what a program prints and what it logs come in an order that is not the users'.
    # What is for the template's tests is not for a project's.
    unwanted = {"VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTEST_ADDOPTS"}
    inherited = {k: v for k, v in os.environ.items() if k not in {*unwanted, *SETTINGS}}
    return inherited | {"PATH": path} | settings


def bake(folder: Path, **answers: str) -> Project:
    """Render the template into ``folder`` with the real command."""
    subprocess.run(
        [
            *(sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"),
            *("--default-config", "--output-dir", str(folder)),
            *(f"{key}={value}" for key, value in answers.items()),
        ],
        # It keeps the answers at home, and leaves its hooks where temporary files are.
        env=environment(HOME=str(folder), TMPDIR=str(folder)),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Project(folder / answers.get("project_slug", SLUG))
